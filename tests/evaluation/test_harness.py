import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save

from aigc_lab.config.compose import Composer
from aigc_lab.data.images import Digits
from aigc_lab.data.samples import Images, Texts
from aigc_lab.errors import UserError
from aigc_lab.evaluation import metrics
from aigc_lab.evaluation.battery import METRICS, gap_closed
from aigc_lab.evaluation.compare import Row, Table, _flags, control_table
from aigc_lab.evaluation.completions import Completion
from aigc_lab.evaluation.controls import CONTROLS, Noise
from aigc_lab.evaluation.drawn import Drawn, Spent
from aigc_lab.evaluation.harness import Harness
from aigc_lab.generators import Cost, LogLikelihood
from aigc_lab.scores import Score


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Harness:
    protocol = Composer().evaluate([]).evaluation
    dataset = Digits(batch_size=8, levels=None, held_out=0.25)
    return Harness(dataset, protocol, tmp_path_factory.mktemp("cache"))


def value(harness: Harness, control: str, metric: str) -> float | None:
    return next(s.value for s in harness.controls[control] if s.metric == metric)


def test_the_controls_stand_in_the_order_that_they_must(harness: Harness) -> None:
    """Real data beats the baseline beats noise in every quality metric, and the copycat beats real data in those
    that are blind to copying."""
    for metric in ("frechet", "precision", "recall", "coverage", "nn_accuracy"):
        sign = {"lower": 1, "higher": -1, "match": 1}[METRICS[metric].direction]
        oracle, baseline, noise = (sign * value(harness, c, metric) for c in ("oracle", "baseline", "noise"))
        assert oracle < baseline < noise, metric
    for metric in ("frechet", "recall", "coverage"):
        sign = {"lower": 1, "higher": -1}[METRICS[metric].direction]
        assert sign * value(harness, "copycat", metric) < sign * value(harness, "oracle", metric)
    assert value(harness, "copycat", "authenticity") == 0 < 0.4 < value(harness, "oracle", "authenticity")


def test_every_score_stands_beside_its_floor_and_its_worst(harness: Harness) -> None:
    for name, scores in harness.controls.items():
        assert [s.metric for s in scores] == list(METRICS)
        for score in scores:
            assert score.floor == value(harness, "oracle", score.metric)
            worst = METRICS[score.metric].worst
            assert score.worst == (value(harness, worst, score.metric) if worst else None)
            assert (score.protocol, score.seed, score.data_hash) == ("standard@450", 0, harness.spec.content_hash)
            if score.value is not None:
                assert score.low <= score.value <= score.high
            if score.gap_closed is not None:
                assert score.gap_low <= score.gap_closed <= score.gap_high
                assert score.gap_closed == {"oracle": 1.0, worst: 0.0}.get(name, score.gap_closed)
    assert value(harness, "noise", "bits_per_byte") == pytest.approx(4.087, abs=1e-3), "log2 17"


def test_a_control_is_scored_by_the_code_that_scores_models(harness: Harness) -> None:
    drawn = harness.draw(CONTROLS["baseline"](harness.dataset))
    again = harness.score(drawn, run="x", kind="x", weights="").scores
    for mine, control in zip(again, harness.controls["baseline"], strict=True):
        assert (mine.value, mine.low, mine.high) == (control.value, control.low, control.high)


def test_cmmd_is_a_column_of_clips_features_only(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = harness.draw(CONTROLS["baseline"](harness.dataset))
    assert value(harness, "baseline", "cmmd") is None
    monkeypatch.setattr(harness, "features", replace(harness.features, clip=True))
    evidence = harness._evidence(drawn)
    assert METRICS["cmmd"].measure(evidence) == metrics.cmmd(evidence.reference, evidence.generated)


def test_the_blind_spots_are_those_that_theory_predicts(harness: Harness) -> None:
    """The matrix of the reference, B: which metric takes which fault for real data."""
    blind = control_table(harness).blind
    for metric in ("frechet", "kernel_distance", "mmd", "sliced_wasserstein", "mauve", "precision", "recall"):
        assert "copycat" in blind[metric], f"{metric} cannot know the training set"
    for metric in ("feature_likelihood", "data_copying", "authenticity", "nn_accuracy"):
        assert not {"copycat", "noisy_copycat"} & set(blind[metric]), metric
    for metric, sees in (("frechet", False), ("density", True), ("coverage", True), ("data_copying", True)):
        assert ("gaussian" not in blind[metric]) == sees, f"{metric} and a Gaussian of the right two moments"
    assert "dropped_mode" in blind["density"] and "dropped_mode" in blind["precision"]
    assert "dropped_mode" not in blind["coverage"]
    recall = [value(harness, control, "recall") for control in ("dropped_mode", "oracle", "halves")]
    assert recall[0] < min(recall[1:]) - 0.04, "a tenth of the data is not recalled"
    seen = {metric for metric, controls in blind.items() if "noise" not in controls}
    assert set(blind) - seen == {"memorised"}, "noise is no copy"


def test_every_control_faces_as_many_real_items_with_as_many_samples(harness: Harness) -> None:
    """Many metrics move with n: only so may they stand in one column."""
    for name, scores in harness.controls.items():
        assert {(s.n_real, s.n_generated) for s in scores} == {(450, 450)}, name
    smaller = harness.at(100)
    assert (len(smaller.reference_features), smaller.n) == (100, 100)


def test_no_gap_is_closed_where_useless_samples_score_like_real_ones(harness: Harness) -> None:
    controls = {**harness.controls, "noise": harness.controls["oracle"]}
    for score in harness._calibrate(harness.raw_control("baseline"), controls):
        if METRICS[score.metric].worst == "noise":
            assert score.gap_closed is None and score.gap_low is None, score.metric


def test_a_gap_has_the_errors_of_floor_and_worst(harness: Harness) -> None:
    """(w - v) / (w - f) to first order: those of v, g f and (1 - g) w, over w - f, in squares."""
    rows = {row.name.removeprefix("control:"): row for row in control_table(harness).rows}
    v, f, w = (rows[name].scores["frechet"] for name in ("baseline", "oracle", "noise"))
    g, span = v.gap_closed, w.value - f.value
    shares = (v.estimate, 1), (f.estimate, g), (w.estimate, 1 - g)
    expected = math.hypot(*(share * estimate.standard_error for estimate, share in shares)) / span
    assert (v.gap_high - v.gap_low) / (2 * 1.96) == pytest.approx(expected, rel=0.05)
    alone = rows["baseline"].gap_between_controls
    assert alone.value == rows["baseline"].gap_closed.value
    assert alone.standard_error < rows["baseline"].gap_closed.standard_error
    assert rows["oracle"].gap_closed == rows["oracle"].gap_between_controls, "the floor is no other sample"


def test_who_is_accused_of_copying(harness: Harness) -> None:
    """Copies are, even disturbed ones. Not babble that crowds in one place, which is rarely `authentic`, nor what
    crowds where data are dense: a law shrunk by two fifths in 64 dimensions has 77 % of its samples memorised, by
    distance, and FLD finds no single points. Nor blurred pictures of what is held out."""
    rows = {row.name.removeprefix("control:"): row for row in control_table(harness).rows}
    oracle, copycat = rows["oracle"].scores, rows["copycat"].scores

    def said(scores: Mapping[str, Score]) -> set[str]:
        return {flag.key for flag in _flags(Row("run", "run", scores), rows["oracle"])} - {"flag.better"}

    accused = {name for name, row in rows.items() if "flag.copies" in said(row.scores)}
    assert accused == {"copycat", "noisy_copycat"}
    assert said({**rows["noise"].scores, "authenticity": copycat["authenticity"]}) == set()
    dense = {**copycat, "feature_likelihood": oracle["feature_likelihood"]}
    assert said(dense) == {"flag.crowds", "flag.memorised"}
    images, labels = harness.held_out, harness.dataset.labels("held_out")
    means = torch.stack([images.pixels[labels == label].float().mean(0) for label in range(10)])
    blurred = (0.7 * images.pixels + 0.3 * means[labels]).round().to(torch.uint8)
    drawn = Drawn(Images(blurred, images.levels), None, Cost(1, 1, 64), Spent(0.01))
    assert said({s.metric: s for s in harness.score(drawn, run="x", kind="x", weights="").scores}) == {
        "flag.crowds"
    }


def test_a_table_says_where_held_out_data_is_not_as_the_training_data_is(harness: Harness) -> None:
    table = control_table(harness)
    assert table.off == [] and "not quite" not in table.caption
    odd = []
    for row in table.rows:
        score = replace(row.scores["nn_accuracy"], low=0.58, value=0.6, high=0.62)
        odd.append(replace(row, scores={**row.scores, "nn_accuracy": score}))
    assert Table(odd, {}, {}, {}).off == ["1-NN acc. 0.6 (expected 0.5)"]


def test_perfect_samples_score_what_theory_says(harness: Harness) -> None:
    """Half of the training split against the other half: no fault, and nothing held out."""
    for score in harness.controls["halves"]:
        if score.metric in ("kernel_distance", "mmd", "nn_accuracy", "density", "coverage", "classifier_auc"):
            width = max(score.high - score.low, 0.02)
            assert score.null == pytest.approx(score.value, abs=1.5 * width), score.metric


def test_what_was_drawn_is_kept_and_damaged_or_foreign_files_are_not_used(
    harness: Harness, tmp_path: Path
) -> None:
    path, digits = tmp_path / "drawn.safetensors", harness.spec
    prose = replace(digits, modality="text", n_classes=0)
    for n, spec, drawn in (
        (450, digits, harness.draw(CONTROLS["baseline"](harness.dataset))),
        (2, prose, Drawn(Texts([b"", b""]), None, Cost(1, 2, 3), Spent(0.1), None, [])),
        (
            3,
            prose,
            Drawn(
                Texts([b"a", b"", "诗".encode()]),
                None,
                Cost(1, 2, 3),
                Spent(0.1, 5, None, 1e-9),
                LogLikelihood(torch.zeros(3).double(), torch.tensor([1, 0, 3]), "exact"),
                [Completion(b"\xff", b"\x00", "诗".encode())],
                torch.arange(90.0),
            ),
        ),
    ):
        drawn.save(path, key="ema@3")
        again = Drawn.load(path, key="ema@3", spec=spec, n=n)
        assert type(again.samples) is type(drawn.samples)
        assert again.samples.bytes_per_item() == drawn.samples.bytes_per_item()
        assert (again.cost, again.spent, again.completions) == (drawn.cost, drawn.spent, drawn.completions)
        for part in ("likelihood", "own", "pronouns"):
            assert (getattr(again, part) is None) == (getattr(drawn, part) is None), part
    assert again.samples.passages == [b"a", b"", "诗".encode()]
    with pytest.raises(ValueError, match="drawn from ema@3"):
        Drawn.load(path, key="ema@4", spec=prose, n=3)
    lengths = {"text": torch.zeros(4, dtype=torch.uint8), "lengths": torch.tensor([1.0, 0, 3])}
    for content in (path.read_bytes()[:50], save(lengths, metadata={"key": "ema@3"})):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="drawn"):
            Drawn.load(path, key="ema@3", spec=prose, n=3)


@pytest.mark.parametrize(
    ("key", "spoil"),
    [
        ("pixels", lambda x: x[:449]),
        ("pixels", lambda x: x[:, :, :4]),
        ("pixels", lambda x: x.float()),
        ("pixels", lambda x: x + 17),
        ("levels", lambda x: x * 2),
        ("likelihood.nats", lambda x: x[:9]),
        ("asked", lambda x: x + 1),
        ("asked", lambda x: x[:9]),
    ],
)
def test_samples_of_another_number_size_or_range_are_drawn_anew(
    harness: Harness, tmp_path: Path, key: str, spoil: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    path, classes = tmp_path / "drawn.safetensors", torch.arange(450) % 10
    replace(harness.draw(CONTROLS["baseline"](harness.dataset)), asked=classes).save(path, key="k")
    Drawn.load(path, key="k", spec=harness.spec, n=450)
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        metadata = file.metadata()
    path.write_bytes(save(tensors | {key: spoil(tensors[key]).contiguous()}, metadata=metadata))
    with pytest.raises(ValueError, match="not 450 samples of digits"):
        Drawn.load(path, key="k", spec=harness.spec, n=450)


def test_controls_are_cached_and_a_damaged_cache_is_measured_anew(harness: Harness) -> None:
    other = Harness(harness.dataset, harness.protocol, harness.cache_dir)
    assert other.controls == harness.controls, "the very rows, times included"
    for path in (harness.cache_dir / "controls").iterdir():
        path.write_text("no json")
    fresh = Harness(harness.dataset, harness.protocol, harness.cache_dir)
    assert value(fresh, "noise", "frechet") == value(harness, "noise", "frechet")


def test_another_modality_and_too_few_items_are_refused(harness: Harness) -> None:
    spec = harness.spec
    texts = Noise(type(spec)(**{**spec.to_json(), "modality": "text", "passage": 8}))
    with pytest.raises(UserError, match="makes texts, but digits holds images"):
        harness.draw(texts)
    with pytest.raises(UserError, match="too few"):
        Harness(harness.dataset, harness.protocol.model_copy(update={"n": 3}), Path())


@pytest.mark.parametrize(
    ("arguments", "gap"),
    [
        ((2.0, 1.0, 11.0, "lower"), 0.9),
        ((0.5, 1.0, 11.0, "lower"), 1.0),
        ((20.0, 1.0, 11.0, "lower"), 0.0),
        ((0.8, 0.9, 0.1, "higher"), 0.875),
        ((0.7, 0.5, 1.0, "match"), 0.6),
        ((0.3, 0.5, 1.0, "match"), 0.6),
        ((None, 0.5, 1.0, "lower"), None),
        ((0.5, 1.0, 1.0, "lower"), None),
    ],
)
def test_gap_closed(arguments: tuple, gap: float | None) -> None:
    assert gap_closed(*arguments) == (None if gap is None else pytest.approx(gap))


class Classes:
    """Held-out digits of the classes that are asked for, or of each one's next class."""

    takes_classes, modality = True, "image"

    def __init__(self, harness: Harness, shift: int) -> None:
        self.images, self.labels = harness.held_out, harness.dataset.labels("held_out")
        self.shift = shift

    def draw_classes(self, n: int, *, rng: torch.Generator) -> torch.Tensor:
        return torch.arange(n) % 10

    def sample_classes(self, classes: torch.Tensor, *, rng: torch.Generator) -> Images:
        of_each = [(self.labels == label).nonzero()[0, 0] for label in (classes + self.shift) % 10]
        return self.images[torch.stack(of_each)]

    def log_likelihood(self, batch: Images, *, rng: torch.Generator, importance_samples: int = 1) -> None:
        return None

    def cost(self) -> Cost:
        return Cost(1, 1000, 64, tokens_per_sample=64)


def test_what_is_asked_for_is_held_against_what_comes(harness: Harness, tmp_path: Path) -> None:
    """Columns of classes stand only beside models that are asked for them."""
    found = {}
    for shift in (0, 1):
        harness.draw(Classes(harness, shift)).save(tmp_path / "drawn", key="k")
        drawn = Drawn.load(tmp_path / "drawn", key="k", spec=harness.spec, n=450)
        scores = harness.score(drawn, run="x", kind="x", weights="").scores
        found[shift] = Row("x", "x", {s.metric: s for s in scores})
    right, wrong = (found[shift].scores["asked_class"] for shift in (0, 1))
    assert right.value >= 0.9 and wrong.value <= 0.1
    assert right.floor > 0.95 and right.worst < 0.2, "held-out data of its own classes, noise"
    controls = control_table(harness)
    assert "asked_class" not in [m.name for m in controls.metrics]
    assert "asked_class" in [m.name for m in replace(controls, rows=[*controls.rows, found[0]]).metrics]


def test_pace_is_what_the_clock_says(harness: Harness) -> None:
    drawn = replace(harness.draw(Classes(harness, 0)), spent=Spent(0.01))
    scores = {s.metric: s for s in harness.score(drawn, run="x", kind="x", weights="").scores}
    pace = Row("x", "x", scores).pace
    assert (pace.samples_per_second, pace.tokens_per_second, pace.bytes_per_second) == (100, 6400, 6400)
    # a quarter of an hour for each that is worth keeping; ten real digits over and over are precise, and few
    assert scores["coverage"].value < scores["precision"].value
    by_hand = 900 * scores["coverage"].value
    assert pace.time_saved.seconds == pytest.approx(by_hand - 0.01)
