"""Tables of scores as text: for the terminal, Markdown, LaTeX and CSV."""

import csv
import io
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields

from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from aigc_lab.evaluation.arguments import CONTROL, MAIN_CONTROLS
from aigc_lab.evaluation.battery import METRICS
from aigc_lab.evaluation.compare import Pace, Rank, Row, Table
from aigc_lab.evaluation.metrics import Estimate
from aigc_lab.scores import Score


def format_value(score: Score) -> str:
    """A cell: three significant digits; ≤ before a bound; `none` where there is no such number."""
    if score.value is None:
        return "none"
    sign = "≤ " if score.kind == "upper bound" else ""
    return sign + _number(score.value)


def _with_error(score: Score) -> str:
    """3.14 ± 0.2: the wider half of the interval."""
    found = score.estimate
    half = f" ± {max(found.high - found.value, found.value - found.low):.2g}" if found else ""
    return format_value(score) + half


def _number(value: float) -> str:
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def format_count(n: float) -> str:
    """1234567 -> 1.23M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= size:
            return f"{n / size:.3g}{unit}"
    return f"{n:.3g}"


def format_difference(difference: Estimate) -> str:
    """+0.12 ± 0.03; a star where the interval leaves zero out."""
    star = "*" if difference.low > 0 or difference.high < 0 else ""
    return f"{difference.value:+.3g} ± {difference.high - difference.value:.2g}{star}"


def format_gap(gap: Estimate) -> str:
    """72% ± 3: the wider half of the interval."""
    return f"{gap.value:.0%} ± {100 * max(gap.high - gap.value, gap.value - gap.low):.0f}"


def format_rank(rank: Rank) -> str:
    """1, or 1-2 where the resamples disagree."""
    return str(rank.low) if rank.low == rank.high else f"{rank.low}-{rank.high}"


def cells(table: Table, *, every: bool) -> tuple[list[str], list[list[str]]]:
    """Titles and rows of text; the headline metrics, or every one and its interval."""
    form = _with_error if every else format_value
    shown = [m for m in table.metrics if every or m.headline]
    blind = table.blind
    titles = ["generator", *(m.heading + ("†" if "copycat" in blind[m.name] else "") for m in shown)]
    titles += ["gap closed", *(["rank"] if table.ranks else []), "params", "FLOP/sample", "ms/sample"]
    titles += ["samples/s", "tokens/s", "× by hand"] if every else []
    rows = []
    for row in _rows(table, every):
        gap, cost = row.gap_closed, row.any
        rank = [format_rank(table.ranks[row.name]) if row.name in table.ranks else ""] if table.ranks else []
        rows.append(
            [
                row.label,
                *(form(row.scores[m.name]) for m in shown),
                "none" if gap is None else format_gap(gap),
                *rank,
                format_count(cost.parameters),
                format_count(cost.flops_per_sample),
                f"{1000 * cost.seconds_per_sample:.3g}",
                *(_pace(row.pace) if every else []),
            ]
        )
    return titles, rows


def _pace(pace: Pace | None) -> list[str]:
    """Samples and tokens a second, and how many times as fast as a person's hand."""
    values = [pace.samples_per_second, pace.tokens_per_second, pace.time_saved.factor] if pace else [None] * 3
    return ["none" if value is None else format_count(value) for value in values]


def _rows(table: Table, every: bool) -> list[Row]:
    main = [CONTROL + name for name in MAIN_CONTROLS]
    return [row for row in table.rows if every or not row.is_control or row.name in main]


def difference_cells(table: Table, *, every: bool) -> tuple[list[str], list[list[str]]]:
    """The same for the differences from the baseline."""
    names = [m.name for m in table.metrics if every or m.headline]
    labels = {row.name: row.label for row in table.rows}
    rows = [
        [labels[name], *(format_difference(found[m]) if m in found else "none" for m in [*names, "gap_closed"])]
        for name, found in table.differences.items()
    ]
    return ["less the baseline", *(METRICS[m].heading for m in names), "gap closed"], rows


def print_table(table: Table, *, every: bool) -> None:
    """On the terminal, with its caption and flags; on its side where it is too wide."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=180)
    _print(console, table.title, *cells(table, every=every))
    if table.differences:
        _print(console, "differences", *difference_cells(table, every=every))
    console.print(_caption(table, every), markup=False)
    for row in _rows(table, every):
        for flag in table.flags.get(row.name, ()):
            console.print(f"⚑ {row.name}: {flag}", markup=False)


def _caption(table: Table, every: bool) -> str:
    """Where the column "× by hand" is, with what it assumes."""
    saved = next((row.pace.time_saved for row in table.rows if row.pace), None)
    if saved is None or not every:
        return table.caption
    rate, *_, unseen = saved.assumptions
    return f"{table.caption} By hand: {rate}; worth keeping is the smaller of precision and coverage; {unseen}."


def _print(console: Console, title: str, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    def made(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> RichTable:
        shown = RichTable(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for i, heading in enumerate(titles):
            shown.add_column(heading, justify="right" if i else "left", no_wrap=not i, overflow="fold")
        for row in rows:
            shown.add_row(*row)
        return shown

    across = made(titles, rows)
    if console.measure(across, options=console.options.update(max_width=1000)).maximum <= console.width:
        console.print(across)
    else:
        generators, *metrics = zip(titles, *rows, strict=True)
        console.print(made([re.sub("([/:])", r"\1\n", heading) for heading in generators], metrics))


def to_markdown(tables: Sequence[Table], *, every: bool) -> str:
    """GitHub's Markdown, numbers to the right."""
    return "\n".join(_table_in_markdown(table, every) for table in tables)


def _table_in_markdown(table: Table, every: bool) -> str:
    parts = [f"**{table.title}**", "", *_markdown(*cells(table, every=every)), ""]
    if table.differences:
        parts += [*_markdown(*difference_cells(table, every=every)), ""]
    flags = [f"- ⚑ {row.name}: {flag}" for row in _rows(table, every) for flag in table.flags.get(row.name, ())]
    return "\n".join([*parts, _caption(table, every), *([""] if flags else []), *flags, ""])


def _markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    def line(columns: Sequence[str]) -> str:
        return "| " + " | ".join(column.replace("|", "\\|") for column in columns) + " |"

    return [line(titles), line(["---"] + ["---:"] * (len(titles) - 1)), *map(line, rows)]


_LATEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
    "↓": "$\\downarrow$",
    "↑": "$\\uparrow$",
    "→": "$\\to$",
    "≤": "$\\le$",
    "±": "$\\pm$",
    "−": "$-$",
    "×": "$\\times$",
    "†": "$\\dagger$",
    "∞": "$\\infty$",
    "∫": "$\\int$",
    "¹": "$^1$",
    "²": "$^2$",
    "₁": "$_1$",
    "₂": "$_2$",
    "·": "$\\cdot$",
}
_ACCENTS = {"\u0300": "\\`", "\u0301": "\\'", "\u0302": "\\^", "\u0303": "\\~", "\u0308": '\\"'}


def to_latex(tables: Sequence[Table], *, every: bool) -> str:
    """One `table` each, and one for its differences, for the packages booktabs and graphicx."""
    found = []
    for table in tables:
        found.append(_float(_latex(*cells(table, every=every)), f"{table.title}. {_caption(table, every)}"))
        if table.differences:
            caption = f"{table.title}. Less {table.baseline}; a star where the interval of 95 % leaves zero out."
            found.append(_float(_latex(*difference_cells(table, every=every)), caption))
    return "\n".join(found)


def _float(lines: Sequence[str], caption: str) -> str:
    parts = [
        "\\begin{table}",
        "\\centering",
        "\\small",
        *lines,
        f"\\caption{{{_tex(caption)}}}",
        "\\end{table}",
        "",
    ]
    return "\n".join(parts)


def _latex(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """With a row for each metric, as a page is higher than wide, and shrunk where it is too wide all the same."""

    def line(columns: Sequence[str]) -> str:
        return " & ".join(map(_tex, columns)) + r" \\"

    heads, *body = zip(titles, *rows, strict=True)
    return [
        "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%",
        f"\\begin{{tabular}}{{l{'r' * len(rows)}}}",
        *("\\toprule", line(heads), "\\midrule", *map(line, body), "\\bottomrule"),
        "\\end{tabular}}",
    ]


def _tex(text: str) -> str:
    """In ASCII, which every LaTeX reads; a character that has no name there is given by its number."""
    return "".join(_LATEX.get(c) or (c if c.isascii() else _accented(c)) for c in text)


def _accented(character: str) -> str:
    letter, *accent = list(unicodedata.normalize("NFD", character))
    known = len(accent) == 1 and accent[0] in _ACCENTS and letter.isascii()
    return f"{_ACCENTS[accent[0]]}{{{letter}}}" if known else f"U+{ord(character):04X}"


OWN = ("baseline", "difference", "difference_low", "difference_high", "rank", "flags")
"""Columns that stand behind a score's own."""


def to_csv(tables: Sequence[Table], *, every: bool) -> str:
    """Every field of every score, one line each, with its difference from the baseline, for a spreadsheet or a
    data frame; and a line for each generator's mean gap closed, with its rank and flags."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [*(field.name for field in fields(Score)), *OWN])
    writer.writeheader()
    for table in tables:
        for row in table.rows:
            shown = [
                s for s in row.scores.values() if s.value is not None and (every or METRICS[s.metric].headline)
            ]
            lines = [score.to_json() for score in shown]
            if gap := row.gap_closed:
                shares = {"value": gap.value, "low": gap.low, "high": gap.high, "floor": 1.0, "worst": 0.0}
                shares |= {"gap_closed": gap.value, "gap_low": gap.low, "gap_high": gap.high}
                rank = format_rank(table.ranks[row.name]) if row.name in table.ranks else ""
                flags = "; ".join(map(str, table.flags.get(row.name, ())))
                own = {"metric": "gap_closed", "kind": "", "null": None, "rank": rank, "flags": flags}
                lines.append(row.any.to_json() | shares | own)
            for line in lines:
                difference = table.differences.get(row.name, {}).get(line["metric"])
                less = (table.baseline, difference.value, difference.low, difference.high) if difference else ()
                writer.writerow(line | {"run": row.name} | dict(zip(OWN, less, strict=False)))
    return buffer.getvalue()


FORMATS: Mapping[str, Callable[..., str]] = {"markdown": to_markdown, "latex": to_latex, "csv": to_csv}
