"""The blind-spot matrix of gan_theory_and_metrics.md, part B: which metric of the battery takes which fault for
real data, on features of laws that are known."""

from dataclasses import replace

import pytest
import torch
from laws import gaussian, two_modes
from test_report import MadeUp, Spec

from aigc_lab.data.samples import Texts
from aigc_lab.evaluation import controls
from aigc_lab.evaluation.arguments import CONTROL
from aigc_lab.evaluation.battery import METRICS, Evidence
from aigc_lab.evaluation.compare import Row, Table
from aigc_lab.evaluation.controls import Contest
from aigc_lab.evaluation.metrics import FeatureLikelihood

N, D = 2000, 4


def blobs(n: int, seed: int = 0) -> torch.Tensor:
    """`two_modes` along the first axis, and as wide as a mode along the others."""
    return torch.cat([two_modes(n, 10 * seed), 0.5 * gaussian(n, D - 1, 10 * seed + 5)], 1)


MATRIX = {
    #                    copycat  gaussian  dropped_mode  noise
    "frechet":            "blind    blind     sees          sees",
    "kernel_distance":    "blind    blind     sees          sees",
    "mmd":                "blind    sees      sees          sees",
    "sliced_wasserstein": "blind    sees      sees          sees",
    "classifier_auc":     "blind    sees      sees          sees",
    "nn_accuracy":        "sees     sees      sees          sees",
    "precision":          "blind    sees      blind         sees",
    "recall":             "blind    -         sees          -   ",
    "density":            "blind    sees      blind         sees",
    "coverage":           "blind    sees      sees          sees",
    "data_copying":       "sees     sees      -             sees",
    "authenticity":       "sees     -         -             sees",
    "feature_likelihood": "sees     sees      sees          sees",
}  # fmt: skip
"""Of a mixture of two modes (S5, S6): what moment-matched, half-lost, copied and useless samples look like. Cells
that the reference leaves open have a dash."""
FAULTS = ("copycat", "gaussian", "dropped_mode", "noise")


@pytest.fixture(scope="module")
def table() -> Table:
    train, held_out = blobs(5 * N), blobs(N, 1)
    reference, rng = train[:N], torch.Generator().manual_seed(0)
    known, fresh = controls.stand_in(train, N, rng)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(controls, "N_MODES", 2)
        contests = {
            name: control(reference, train, held_out, rng=rng) for name, control in controls.FROM_FEATURES.items()
        }
    contests |= {
        "oracle": Contest(reference, held_out, train, known, fresh),
        "copycat": Contest(reference, reference, train, train, held_out),
        "noise": Contest(reference, 8 * torch.rand(N, D, generator=rng).double() - 4, train, train, held_out),
    }
    made = MadeUp(Spec("two modes", ""), Texts([]), "image")
    rows = []
    for name, c in contests.items():
        evidence = Evidence(
            reference=c.reference,
            generated=c.generated,
            train=c.train,
            known=c.known,
            fresh=c.fresh,
            feature_likelihood=FeatureLikelihood(c.known, c.fresh, N),
            classify=None,
            asked=None,
            likelihood=None,
            reading=None,
        )
        scores = {}
        for metric in METRICS:
            found = METRICS[metric].measure(evidence) if metric in MATRIX else None
            scores[metric] = replace(
                made.score(name, metric, 0.0),
                value=found.value if found else None,
                low=found.low if found else None,
                high=found.high if found else None,
            )
        rows.append(Row(CONTROL + name, name, scores))
    return Table(rows, {}, {}, {})


@pytest.mark.parametrize("metric", MATRIX)
def test_a_metric_is_blind_where_theory_says(table: Table, metric: str) -> None:
    for fault, expected in zip(FAULTS, MATRIX[metric].split(), strict=True):
        if expected != "-":
            assert (fault in table.blind[metric]) == (expected == "blind"), fault


def test_the_numbers_of_the_matrix(table: Table) -> None:
    """Copies: 0 and 1 exactly. One of two modes lost (S6): P 1, R 1/2, D 1, C (1 - 3^-5) / 2, accuracy 3/4."""

    def value(control: str, metric: str) -> float:
        return next(row.scores[metric].value for row in table.rows if row.label == control)

    for metric, expected in {
        "frechet": 0, "sliced_wasserstein": 0, "nn_accuracy": 0, "authenticity": 0,
        "precision": 1, "recall": 1, "density": 1, "coverage": 1,
    }.items():  # fmt: skip
        assert value("copycat", metric) == pytest.approx(expected, abs=1e-9), metric
    assert value("copycat", "feature_likelihood") > 1000 and value("copycat", "kernel_distance") <= 0
    for metric, expected in {"precision": 1, "recall": 0.5, "density": 1, "coverage": (1 - 3**-5) / 2}.items():
        assert value("dropped_mode", metric) == pytest.approx(expected, abs=0.08), metric
    assert value("dropped_mode", "classifier_auc") == pytest.approx(0.75, abs=0.04), (
        "half of the data are told apart"
    )
    assert value("oracle", "coverage") == pytest.approx(0.969, abs=0.015)
    assert 0.15 < value("oracle", "authenticity") < 0.5, "fresh data, of which a third is authentic on a line"
