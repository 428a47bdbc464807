"""Tables as text, of two made-up runs and the controls."""

import csv
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from test_report import MadeUp, Spec

from aigc_lab.data.samples import Texts
from aigc_lab.evaluation.battery import METRICS
from aigc_lab.evaluation.compare import Row, Table, _by_metric, _controls, _table
from aigc_lab.evaluation.tabulate import _tex, cells, to_csv, to_latex, to_markdown


@pytest.fixture(scope="module")
def table() -> Table:
    prose = MadeUp(Spec("prose & 诗", "b" * 16), Texts([b"once"]), "text")
    runs = [
        Row(f"{label}/1", label, _by_metric(prose.scores(f"{label}/1", quality)))
        for label, quality in (("text/a", 0.9), ("text/b_50%", 0.4))
    ]
    return _table([*runs, *_controls(prose)], runs[1])  # type: ignore[arg-type]


def test_every_metric_has_its_interval_where_all_are_shown(table: Table) -> None:
    titles, ((_, *values), *_) = cells(table, every=True)
    intervals = [value for title, value in zip(titles[1:], values, strict=True) if " ± " in value]
    assert len(intervals) == len(table.metrics) + 1 and intervals[0] == "-0.9 ± 0.01"
    assert " ± " in to_markdown([table], every=True).splitlines()[4].split("|")[2]
    few = cells(table, every=False)[1][0]
    assert [value for value in few if "±" in value] == ["90% ± 1"], "the main ones are short"


def test_latex_is_ascii_and_fits_on_a_page(table: Table, tmp_path: Path) -> None:
    for metric in METRICS.values():
        assert _tex(metric.heading).isascii(), metric.title
    for every in (False, True):
        latex = to_latex([table], every=every)
        assert latex.isascii() and latex.count("\\begin{tabular}") == 2
        assert "Fr\\'{e}chet $\\downarrow$" in latex and "U+8BD7" in latex and "50\\%" in latex
        columns = re.findall(r"begin{tabular}{(l[r]+)}", latex)
        assert [len(c) for c in columns] == [1 + 2 + (8 if every else 4), 2], "a row for each metric"
        if shutil.which("pdflatex") and every:
            rules = "".join(rf"\let\{rule}\hline" for rule in ("toprule", "midrule", "bottomrule"))  # of booktabs
            head = rf"\documentclass{{article}}\usepackage{{graphicx}}{rules}\begin{{document}}"
            (tmp_path / "t.tex").write_text(head + latex + r"\end{document}")
            command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout
            assert not re.findall("Overfull|too large", done.stdout)


def test_csv_has_differences_mean_gaps_ranks_and_flags(table: Table) -> None:
    rows = {(row["run"], row["metric"]): row for row in csv.DictReader(to_csv([table], every=False).splitlines())}
    frechet = rows["text/a/1", "frechet"]
    assert (frechet["baseline"], float(frechet["difference"])) == ("text/b_50%/1", pytest.approx(-0.5))
    assert float(frechet["difference_low"]) < -0.5 < float(frechet["difference_high"])
    gap = rows["text/a/1", "gap_closed"]
    assert [float(gap[key]) for key in ("value", "low", "high", "difference")] == pytest.approx(
        [0.9, 0.89, 0.91, 0.5]
    )
    assert gap["rank"] == "1" and "crowds nearer to training data" in gap["flags"]
    assert (
        not rows["text/b_50%/1", "frechet"]["difference"] and not rows["control:noise", "gap_closed"]["baseline"]
    )
