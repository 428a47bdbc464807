"""The report on generators made up for the purpose: two of images, one of texts, hostile names and samples."""

import base64
import itertools
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from headless import Page, browser, find_browser
from hypothesis import given
from hypothesis import strategies as st

from aigc_lab.config.compose import Composer
from aigc_lab.data.samples import Images, Samples, Texts
from aigc_lab.evaluation import report
from aigc_lab.evaluation.arguments import CONTROL, CONTROL_NAMES, PERFECT
from aigc_lab.evaluation.battery import METRICS
from aigc_lab.evaluation.compare import Table, tables
from aigc_lab.evaluation.exhibit import Continuation, Exhibit, TextPair
from aigc_lab.evaluation.harness import Result
from aigc_lab.evaluation.report.charts import Axis, pareto_front, thin
from aigc_lab.evaluation.report.differences import HIDDEN, config_differences, without_secrets
from aigc_lab.evaluation.report.grid import column_groups, flag_in_words, heading, heat_map
from aigc_lab.evaluation.report.language import LANGUAGES, phrases
from aigc_lab.evaluation.report.page import N_MARKS, render
from aigc_lab.evaluation.safety import Finding, Safety
from aigc_lab.evaluation.subjects import Evaluated
from aigc_lab.pictures import sheet, to_png
from aigc_lab.run import Run
from aigc_lab.scores import Score

HOSTILE = '</pre></script><script>boom(1)</script><img src=x onerror=boom(2)>" onerror="boom(3)'
SELECTION = "lr of 3 on seed 9"
FRONTIER = [(0.0, 1.0), (0.5, 0.8), (0.8, 0.5), (1.0, 0.0)]


@dataclass
class Spec:
    name: str
    content_hash: str


@dataclass
class MadeUp:
    """What the report asks of a harness."""

    spec: Spec
    shuffled_held_out: Samples
    modality: str
    controls: dict[str, list[Score]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        quality = dict(zip(CONTROL_NAMES, torch.linspace(1, 0, len(CONTROL_NAMES)).tolist(), strict=True))
        self.controls = {name: self.scores(CONTROL + name, q) for name, q in quality.items()}

    @property
    def group(self) -> tuple[str, ...]:
        return self.controls["oracle"][0].group

    def control_frontier(self, name: str) -> list[tuple[float, float]]:
        return FRONTIER

    def scores(self, run: str, quality: float) -> list[Score]:
        """Every metric at `quality` of the way from worst to floor."""
        return [self.score(run, metric, quality) for metric in METRICS]

    def score(self, run: str, metric: str, quality: float) -> Score:
        sign = {"lower": -1.0, "higher": 1.0, "match": 1.0}[METRICS[metric].direction]
        none = METRICS[metric].group == "likelihood" and "gan" in run
        return Score(
            run=run,
            generator="made up",
            modality=self.modality,
            data=self.spec.name,
            data_hash=self.spec.content_hash,
            protocol="standard@100",
            features="none",
            features_hash="0" * 16,
            judge="",
            judge_hash="",
            metric=metric,
            value=None if none else sign * quality,
            low=None if none else sign * quality - 0.01,
            high=None if none else sign * quality + 0.01,
            kind="",
            window=64 if metric == "perplexity" and "text" in run else None,
            floor=sign,
            worst=0.0,
            null=None,
            gap_closed=None if none else quality,
            gap_low=None if none else max(0.0, quality - 0.01),
            gap_high=None if none else min(1.0, quality + 0.01),
            n_real=100,
            n_generated=100,
            seed=0,
            weights="raw@6#0",
            parameters=1000,
            flops_per_sample=0 if run.startswith(CONTROL) else int(1e6 * (1 + quality)),
            bytes_per_sample=64,
            tokens_per_sample=None,
            seconds_per_sample=0.002 * (1 + quality),
            peak_memory=200_000_000,
            peak_gpu_memory=None,
            kwh_per_sample=None,
        )


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> list[Evaluated]:
    pixels = Images(torch.arange(64 * 64).view(64, 1, 8, 8).remainder(17).to(torch.uint8), 17)
    digits = MadeUp(Spec("digits", "a" * 16), pixels, "image")
    prose = MadeUp(Spec("prose", "b" * 16), Texts([b"once upon a time", HOSTILE.encode()]), "text")
    picture = to_png(sheet(pixels, columns=16))
    images = Exhibit(sheet=picture, neighbours=picture, frontier=FRONTIER)
    texts = Exhibit(
        texts=[TextPair(HOSTILE, "a\x00b\u202e", 3)],
        continuations=[Continuation("once ", "upon a time", HOSTILE)],
        frontier=FRONTIER,
        safety=Safety(0.25, 0.01, [Finding("e-mail", 0.5, 0.0, 2, 1, [HOSTILE])], ["nurse"], ["pilot"]),
    )
    made = []
    for name, harness, exhibit, quality, model in (
        ("image/gan/first", digits, images, 0.9, "gan"),
        ("image/vae/first", digits, images, 0.4, "vae"),
        (f"text/{HOSTILE}/1", prose, texts, 0.6, "transformer"),
    ):
        overrides = [f"data={'pydoc' if model == 'transformer' else 'digits'}", f"model={model}"]
        overrides += [f"selection='{SELECTION}'"] if model == "gan" else []
        config = Composer().train(overrides)
        folder = tmp_path_factory.mktemp("runs") / "first"
        run = Run.create(folder, config, ["aigc", "train", "logger.wandb.api_key=hunter2"])
        for sibling, text in {"damaged": "name: [", ".half": "name: x"}.items():
            (folder.parent / sibling).mkdir()
            (folder.parent / sibling / "config.yaml").write_text(text)
        run.metrics_path.write_text("step,metric,value\n0,train/loss,2.5\n9,train/loss,nan\n19,train/loss,1.5\n")
        if model == "gan":
            run.samples.mkdir()
            for step in (100, 200, 300, 400, 500):
                (run.samples / f"step_{step:08d}.png").write_bytes(picture if step < 500 else b"<script>")
            (run.samples / "step_x.png").write_bytes(picture)
        made.append(Evaluated(name, run, Result(harness.scores(name, quality), exhibit), harness))  # type: ignore[arg-type]
    return made


@pytest.fixture(scope="module")
def found(evaluated: list[Evaluated]) -> list[Table]:
    return tables(evaluated, baseline="image/vae/first")


@pytest.fixture(scope="module")
def html(evaluated: list[Evaluated], found: list[Table]) -> str:
    return render(evaluated, found, command=["aigc", "compare", HOSTILE, "a.token=hunter2"])


class Outline(HTMLParser):
    """What a reader and a browser find in a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attributes}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, name: str) -> list[str]:
        return [attributes[name] for _, attributes in self.tags if name in attributes]


def test_nothing_in_the_page_but_its_own_style_and_script_may_act(html: str) -> None:
    outline = Outline(html)
    policy = next(a["content"] for tag, a in outline.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy
    for tag in ("style", "script"):
        (body,) = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        assert f"{tag}-src 'sha256-{base64.b64encode(sha256(body.encode()).digest()).decode()}'" in policy
    names = {name for _, attributes in outline.tags for name in attributes}
    assert "style" not in names and not any(name.startswith("on") for name in names)
    assert all(v.startswith("data:image/png") for v in outline.values("src"))
    assert all(v.startswith("#") for v in outline.values("href"))
    assert not {tag for tag, _ in outline.tags} & {"link", "iframe", "object", "form", "base"}


def test_hostile_text_stays_text(html: str) -> None:
    outline = Outline(html)
    assert len([tag for tag, _ in outline.tags if tag == "script"]) == 1
    assert outline.text.count("<script>boom(1)</script>") > 3, "in a name, a sample, held-out data, a command"
    assert "a␀b\ufffd" in outline.text, "control characters are shown, not obeyed"


def test_secrets_are_not_shown(html: str) -> None:
    assert "hunter2" not in html and HIDDEN in html
    assert without_secrets(["x", "logger.wandb.api_key=1", "s3://me:pw@host/x", "data.tokens=3"]) == [
        "x",
        f"logger.wandb.api_key={HIDDEN}",
        f"s3://{HIDDEN}@host/x",
        "data.tokens=3",
    ]


def test_a_card_says_of_how_many_runs_its_own_is_one_and_what_its_settings_were_chosen_on(
    html: str, found: list[Table]
) -> None:
    """Half-created runs do not count, one whose configuration cannot be read does."""
    assert Outline(html).text.count("one of 2 run(s)") == 3
    assert Outline(html).text.count(f"settings: {SELECTION}") == 1
    assert Outline(html).text.count("what its settings were chosen on is not said") == 2
    assert [row["selection"] for row in found[0].to_json()["rows"]][:3] == [SELECTION, None, None]


def test_the_progress_of_a_run_is_its_first_its_middle_and_its_last_sheet(html: str) -> None:
    """Where they are pictures."""
    strip = re.findall(r'<figure class="progress"><img [^>]*src="data:image/png;base64,[^"]*"', html)
    assert len(strip) == 2 and "after 100 batches" in html and "after 300 batches" in html
    assert "after 500 batches" not in html, "no picture"


def test_a_reader_of_any_kind_finds_the_way(html: str) -> None:
    """Landmarks, names of regions, texts of pictures, and references that lead somewhere."""
    outline = Outline(html)
    tags = [tag for tag, _ in outline.tags]
    for landmark in ("header", "nav", "main", "footer", "h1"):
        assert tags.count(landmark) == 1
    ids = outline.values("id")
    assert len(ids) == len(set(ids))
    wanted = [v.removeprefix("#") for v in outline.values("href")]
    for name in ("aria-labelledby", "aria-controls"):
        wanted += [id for value in outline.values(name) for id in value.split()]
    assert set(wanted) <= set(ids)
    assert all(a.get("alt") for tag, a in outline.tags if tag == "img")
    assert all(a.get("aria-hidden") or a.get("role") == "img" for tag, a in outline.tags if tag == "svg")
    assert all(a.get("type") == "button" for tag, a in outline.tags if tag == "button")
    assert all(a.get("scope") for tag, a in outline.tags if tag == "th")
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels)), "no level of heading is skipped"


def test_text_stands_out_from_what_is_behind_it() -> None:
    """Contrast of at least 4.5 to 1, for lines and markers too (WCAG 2.2, 1.4.3)."""

    def luminance(colour: str) -> float:
        digits = colour if len(colour) == 6 else "".join(2 * c for c in colour)
        parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(a: str, b: str) -> float:
        low, high = sorted([luminance(a), luminance(b)])
        return (high + 0.05) / (low + 0.05)

    css = (Path(report.__file__).parent / "report.css").read_text()
    heat = re.findall(r"\.h\d+ { background: #(\w+); color: #(\w+); }", css)
    assert len(heat) == 11 and all(contrast(*pair) >= 4.5 for pair in heat)
    schemes = [
        dict(re.findall(r"--(\w+): #(\w+);", block)) for block in re.findall(r":root {(.*?)}", css, re.DOTALL)
    ]
    light, dark = schemes[0], schemes[1]
    assert set(light) == set(dark) == {*light, *(f"s{i}" for i in range(N_MARKS))}
    for scheme in (light, dark):
        for ink in ("ink", "soft", "accent", "warn"):
            assert contrast(scheme[ink], scheme["paper"]) >= 4.5, ink
        assert contrast(scheme["ink"], scheme["panel"]) >= 4.5 and contrast(scheme["ink"], scheme["mark"]) >= 4.5
        assert all(contrast(scheme[f"s{i}"], scheme["paper"]) >= 4.5 for i in range(N_MARKS))


def test_every_phrase_is_said_and_in_every_language() -> None:
    def fields(text: str) -> set[str | None]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    instead = {
        key: said for key, said in phrases().items() if key.startswith(("metric.", "flag.", "value.saved."))
    }
    assert {key.removeprefix("metric.") for key in instead if key.startswith("metric.")} <= set(METRICS)
    assert all(list(said) == ["zh"] for said in instead.values()), "English comes with the number"
    for key, said in phrases().items():
        if key in instead:
            continue
        assert list(said) == list(LANGUAGES) and fields(said["en"]) == fields(said["zh"]), key
    folder = Path(report.__file__).parent
    sources = "".join(p.read_text() for p in folder.iterdir() if p.suffix in (".py", ".j2"))
    spelled = set(re.findall(r'"([a-z]+(?:\.[a-z]+)*)"', sources))
    put_together = (
        "metric.",
        "flag.",
        "value.saved.",
        "group.",
        "safety.kind.",
        "pareto.",
        "frontier.",
        "novelty.",
        "curve.",
    )
    silent = {key for key in phrases() if key not in spelled and not key.startswith(put_together)}
    assert not silent, "phrases that nothing says"
    assert {f"group.{m.group}" for m in METRICS.values()} <= set(phrases())


def test_columns_fold_to_the_main_ones(found: list[Table]) -> None:
    for group in column_groups(found[0]):
        assert any(not column.extra for column in group.columns), "a folded group keeps a column"
    shown = [c for g in column_groups(found[0]) for c in g.columns]
    assert len(shown) > len([m for m in METRICS.values() if m.headline]) + 4
    cell = column_groups(found[0])[0].columns[0].cell(found[0].rows[0])
    assert (cell.text, cell.interval, cell.bar.low) == ("90%", "89% … 91%", pytest.approx(0.89))


def test_the_heat_map_marks_what_the_table_calls_blind(found: list[Table]) -> None:
    blind = found[0].blind
    heat = heat_map(found[0])
    assert [name for name, _, _ in heat.rows] == list(CONTROL_NAMES)
    for name, perfect, cells in heat.rows:
        assert perfect == (name in PERFECT)
        for metric, cell in zip(heat.metrics, cells, strict=True):
            assert cell.blind == (name in blind[metric.name])
    assert [cell.text for cell in heat.rows[0][2]] == ["100"] * len(heat.metrics)


def test_a_metric_of_an_unknown_group_needs_no_change_here(
    evaluated: list[Evaluated], monkeypatch: pytest.MonkeyPatch
) -> None:
    strange = replace(METRICS["recall"], group="colours", headline=False)
    monkeypatch.setitem(METRICS, "recall", strange)  # type: ignore[arg-type]
    assert "colours" in Outline(page_of(evaluated)).text


def test_what_is_to_match_real_data_is_sorted_by_how_far_from_it_it_is(found: list[Table]) -> None:
    """A density of 1.4 is no better than one of 0.6, and none is better than real data's."""
    columns = {str(c.heading): c for g in column_groups(found[0]) for c in g.columns}
    density = columns[str(heading(METRICS["density"]))]
    row = found[0].rows[0]
    orders = []
    for value in (1.0, 1.4, 0.6, 2.0):
        score = replace(row.scores["density"], value=value, floor=1.0)
        orders.append(density.cell(replace(row, scores={**row.scores, "density": score})).order)
    assert orders == pytest.approx([0, 0.4, 0.4, 1]) and density.best_first == "ascending"


def test_flags_name_metrics_in_both_languages(found: list[Table]) -> None:
    crowds = found[0].flags["image/gan/first"][0]
    assert crowds.key == "flag.crowds" and "authentic 0.90 (1.00)" in crowds.text
    assert "原创率 0.90 (1.00)" in flag_in_words(crowds)


def test_no_two_of_many_runs_have_one_mark(evaluated: list[Evaluated]) -> None:
    many = [replace(evaluated[0], name=f"image/gan/{i}") for i in range(12)]
    table = re.findall(r'<table class="scores sortable" id="scores-1">.*?</table>', page_of(many), re.DOTALL)[0]
    marks = re.findall(r'<g class="(s\d) d\d"><path class="point" d="([^"]+)"/>', table)
    assert len(marks) == len(set(marks)) == 12


def page_of(evaluated: list[Evaluated]) -> str:
    return render(evaluated, tables(evaluated), command=[])


def test_differences_of_configurations() -> None:
    a = {"seed": 0, "paths": {"x": 1}, "model": {"width": 8, "token": "s3cret"}, "data": {"name": "digits"}}
    b = {"seed": 0, "paths": {"x": 2}, "model": {"width": 16, "token": "other"}, "data": {}}
    assert config_differences([a, b]) == {
        "model.width": ["8", "16"],
        "data.name": ['"digits"', None],
        "data": [None, "{}"],
    }


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        (Axis(0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (Axis(-3, 12), [0, 5, 10]),
        (Axis(1e-5, 1e2, log=True), [1e-5, 1e-3, 1e-1, 10]),
        (Axis(0.003, 0.04, log=True), [0.005, 0.01, 0.02]),
    ],
)
def test_ticks(axis: Axis, ticks: list[float]) -> None:
    assert set(ticks) <= {round(t, 9) for t in axis.ticks} and len(axis.ticks) <= 9
    assert all(0 <= axis.place(t) <= 1 + 1e-9 for t in axis.ticks)


numbers = st.floats(0.01, 100)


@given(st.lists(st.tuples(numbers, numbers), min_size=1))
def test_every_point_lies_on_or_below_the_pareto_front(points: list[tuple[float, float]]) -> None:
    front = pareto_front(points)
    assert front == sorted(front)
    for cost, quality in points:
        assert quality <= max(q for c, q in front if c <= cost)
    assert all(any(q == corner[1] for _, q in points) for corner in front)


@given(st.integers(1, 2000))
def test_a_thinned_line_keeps_its_ends(n: int) -> None:
    points = [(float(i), 0.0) for i in range(n)]
    kept = thin(points)
    assert len(kept) <= 242 and kept[0] == points[0] and kept[-1] == points[-1]


# In a browser


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    executable = find_browser()
    if executable is None:
        pytest.skip("no Chromium is installed")
    with browser(executable) as page:
        yield page


@pytest.fixture(scope="module")
def address(html: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(html, encoding="utf-8")
    return path.as_uri()


ORDER = """[...document.querySelectorAll("#scores-1 tbody th")].map((head) => head.dataset.order)"""
HEAD = """document.querySelectorAll("#scores-1 thead tr:last-child th")[{}]"""


def test_opens_from_disk_without_a_request_or_a_complaint(page: Page, address: str) -> None:
    for width in (1280, 390):
        page.resize(width, 900)
        page.open(address)
        assert page.requests() == [address]
        assert page.complaints() == []
        assert page.run("document.documentElement.scrollWidth") <= width, "only tables scroll sideways"
    assert page.run("document.querySelectorAll('script').length") == 1
    assert page.run("typeof boom") == "undefined" and page.run("document.querySelector('img[onerror]')") is None


def test_sorts_by_click_and_by_key(page: Page, address: str) -> None:
    page.resize(1280, 900)
    page.open(address + "?lang=en")
    unsorted = page.run(ORDER)
    page.run(HEAD.format(0) + ".querySelector('button').click()")
    assert page.run(ORDER) == sorted(unsorted, key=str.lower)
    head = HEAD.format(1)
    page.run(head + ".querySelector('button').focus()")
    page.press("Enter", 13, "\r")
    assert page.run(head + ".getAttribute('aria-sort')") == "descending", "best first"
    assert page.run("document.querySelectorAll('#scores-1 [aria-sort]').length") == 1
    assert page.run(ORDER)[0] == "control:oracle" and page.run(ORDER)[-1] == "control:noise"
    page.press(" ", 32, " ")
    assert page.run(head + ".getAttribute('aria-sort')") == "ascending"
    assert page.run(ORDER)[0] == "control:noise"
    ranks = 2  # controls have none
    page.run(HEAD.format(ranks) + ".querySelector('button').click()")
    assert [name.startswith("control:") for name in page.run(ORDER)] == [False] * 2 + [True] * len(CONTROL_NAMES)


def test_groups_of_columns_fold(page: Page, address: str) -> None:
    page.open(address + "?lang=en")
    visible = "[...document.querySelectorAll('#scores-1 thead tr:last-child th')].filter((c) => !c.hidden).length"
    folded = page.run(visible)
    page.run("document.querySelector('#scores-1 .fold').click()")
    assert page.run(visible) > folded
    page.run("document.querySelector('.unfold').click()")
    assert page.run(visible) == page.run("document.querySelectorAll('#scores-1 thead tr:last-child th').length")
    assert page.run("document.querySelector('.unfold').getAttribute('aria-pressed')") == "true"
    page.run("document.querySelector('.unfold').click()")
    assert page.run(visible) == folded
    spans = "[...document.querySelectorAll('#scores-1 .groups th')].reduce((n, c) => n + c.colSpan, 1)"
    assert page.run(spans) == folded


def test_switches_language_and_remembers(page: Page, address: str) -> None:
    page.open(address)
    assert page.run("document.documentElement.lang") == "en"
    page.run("document.querySelector('[data-language=zh]').click()")
    assert page.run("document.documentElement.lang") == "zh"
    assert page.run("document.querySelector('h1').innerText") == phrases()["title"]["zh"]
    assert page.run("document.title") == phrases()["document"]["zh"]
    assert page.run("getComputedStyle(document.querySelector('.tilt')).transform") == "none", "not upside down"
    assert page.run("document.querySelector('img').alt") == phrases()["real.alt"]["zh"].format(
        name="digits", columns=16
    )
    page.open(address)
    assert page.run("document.documentElement.lang") == "zh", "the choice is kept"
    page.open(address + "?lang=en")
    assert page.run("document.documentElement.lang") == "en", "the address comes first"
    page.run("localStorage.clear()")
    assert page.complaints() == []


def test_prints_dark_on_white_from_a_dark_browser_too(page: Page, address: str) -> None:
    colours = "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    page.open(address)
    found = {}
    for media in ("screen", "print"):
        page.send("Emulation.setEmulatedMedia", media=media, features=dark)
        found[media] = page.run(colours)
    page.send("Emulation.setEmulatedMedia", media="", features=[])
    assert found == {
        "screen": ["rgb(232, 234, 238)", "rgb(20, 22, 26)"],
        "print": ["rgb(26, 28, 32)", "rgb(255, 255, 255)"],
    }


def test_prints(page: Page, address: str, tmp_path: Path) -> None:
    page.open(address + "?lang=en")
    page.print_to(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
