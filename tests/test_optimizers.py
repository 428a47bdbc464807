"""Optimizers and schedules against the formulas they state."""

import math

import pytest
import torch
from torch import nn

from aigc_lab.config.compose import Composer
from aigc_lab.config.targets import build
from aigc_lab.errors import UserError
from aigc_lab.optimizers import (
    SGD,
    Adam,
    ExponentialDecay,
    LinearRamp,
    Muon,
    WarmupCosine,
    WarmupLinear,
    orthogonalise,
)

OF_2014 = SGD(
    momentum=LinearRamp(start=0.5, end=0.7, steps=125_000), schedule=ExponentialDecay(rate=4e-6, floor=1e-5)
)


@pytest.mark.parametrize(
    ("step", "momentum"), [(0, 0.5), (25_000, 0.54), (62_500, 0.6), (125_000, 0.7), (500_000, 0.7)]
)
def test_the_momentum_of_2014_rises_over_250_epochs(step: int, momentum: float) -> None:
    assert OF_2014.settings(step, 1)["momentum"] == pytest.approx(momentum)


@pytest.mark.parametrize(("step", "factor"), [(0, 1.0), (125_000, math.exp(-0.499999)), (10**8, 1e-5)])
def test_the_learning_rate_of_2014_decays_to_its_floor(step: int, factor: float) -> None:
    assert OF_2014.lr_factor(step, 1) == pytest.approx(factor, rel=1e-5)


def test_momentum_adds_up_gradients_as_the_ramp_says() -> None:
    """Gradient 1 thrice with momenta 0.5, 0.6, 0.7: velocities 1, 1.6, 2.12."""
    sgd = SGD(momentum=LinearRamp(start=0.5, end=0.7, steps=2), schedule=ExponentialDecay(rate=0.0, floor=0.0))
    weight = nn.Parameter(torch.zeros(1))
    optimizer = sgd([weight], lr=0.1)
    for step in range(3):
        for group in optimizer.param_groups:
            group.update(sgd.settings(step, 3), lr=0.1 * sgd.lr_factor(step, 3))
        weight.grad = torch.ones(1)
        optimizer.step()
    assert float(weight.detach()) == pytest.approx(-0.1 * (1 + 1.6 + 2.12))


def test_adam_moves_nothing_but_the_learning_rate() -> None:
    schedule = WarmupCosine(warmup=0, final=1.0)
    assert not Adam(betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0, schedule=schedule).settings(3, 10)


@pytest.mark.parametrize(
    ("step", "factor"),
    [(0, 0.1), (9, 1.0), (10, 1.0), (59, 1.0), (60, 1.0), (99, 0.2), (80, 1 - 0.8 * 20 / 39)],
)
def test_a_trapezoid_rises_stays_and_falls(step: int, factor: float) -> None:
    assert WarmupLinear(warmup=10, decay=0.4, final=0.2)(step, 100) == pytest.approx(factor)


def test_a_fall_over_all_steps_begins_behind_the_warm_up() -> None:
    schedule = WarmupLinear(warmup=2, decay=1.0, final=0.0)
    assert [schedule(step, 6) for step in range(6)] == pytest.approx([0.5, 1.0, 1.0, 2 / 3, 1 / 3, 0.0])


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("constant", [1, 1, 1, 1]),
        ("cosine", [1, (1 + math.sqrt(0.5)) / 2, 0.5, 0]),
        ("linear", [1, 0.75, 0.5, 0]),
        ("trapezoid", [1, 1, 1, 0]),
    ],
)
def test_a_schedule_is_chosen_by_name(schedule: str, factors: list[float]) -> None:
    """For any optimizer; Muon's holds for its matrices too."""
    for chosen in (
        [f"optimizer/schedule={schedule}"],
        ["optimizer=sgd", f"optimizer/schedule={schedule}"],
        ["optimizer=muon", f"optimizer/schedule@optimizer.adam.schedule={schedule}"],
    ):
        optimizer = build(Composer().train(chosen).optimizer, path="optimizer")
        found = [optimizer.lr_factor(step, 101) for step in (0, 25, 50, 100)]
        assert found == pytest.approx(factors)


@pytest.mark.parametrize("shape", [(32, 32), (16, 64), (64, 16)])
def test_orthogonalised_matrices_keep_their_singular_vectors(shape: tuple[int, int]) -> None:
    """U S Vᵀ becomes U S' Vᵀ with all of S' near 1."""
    u, s, vh = torch.linalg.svd(
        torch.randn(3, *shape, generator=torch.Generator().manual_seed(0)), full_matrices=False
    )
    matrices = u @ torch.diag_embed(s.clamp(min=0.05 * s.max())) @ vh
    core = u.mT @ orthogonalise(matrices, n_iterations=5) @ vh.mT
    assert torch.linalg.svdvals(core).sub(1).abs().max() < 0.35
    assert (core - torch.diag_embed(core.diagonal(dim1=1, dim2=2))).abs().max() < 0.05


def _muon(**changes: float) -> Muon:
    schedule = WarmupLinear(warmup=0, decay=1.0, final=0.0)
    adam = Adam(betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0, schedule=schedule)
    return Muon(**{"lr": 0.1, "momentum": 0.9, "n_iterations": 5, "weight_decay": 0.2, "adam": adam, **changes})  # type: ignore[arg-type]


def test_muon_steps_are_those_of_torch_and_adam_has_the_rest() -> None:
    """Matrices against torch.optim.Muon, which goes one by one; the gains against AdamW."""
    rng = torch.Generator().manual_seed(0)
    ours = [nn.Parameter(torch.randn(shape, generator=rng)) for shape in ((8, 4), (4, 8), (8, 4), (5,))]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    optimizer = _muon()(ours, 0.01, matrices=ours[:3])
    muon = torch.optim.Muon(theirs[:3], lr=0.1, momentum=0.9, weight_decay=0.2, adjust_lr_fn="original")
    adam = torch.optim.AdamW(theirs[3:], lr=0.01, betas=(0.9, 0.99), weight_decay=0.0)
    for _ in range(4):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape, generator=rng)
            b.grad = a.grad.clone()
        for o in (optimizer, muon, adam):
            o.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0.02)  # bfloat16; a step moves an entry by about 0.03


def test_muon_continues_from_a_saved_state() -> None:
    torch.manual_seed(0)
    one = [nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(3))]
    two = [nn.Parameter(p.detach().clone()) for p in one]
    first, second = (_muon()(ps, 0.01, matrices=ps[:1]) for ps in (one, two))
    for step in range(4):
        for p, q in zip(one, two, strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        first.step()
        second.step()
        if step == 1:  # the second is killed and begins anew
            saved = second.state_dict()
            second = _muon()(two, 0.01, matrices=two[:1])
            second.load_state_dict(saved)
    for p, q in zip(one, two, strict=True):
        assert torch.equal(p, q)


def test_muon_needs_matrices() -> None:
    with pytest.raises(UserError, match="use optimizer=adam"):
        _muon()([nn.Parameter(torch.ones(2, 2))], 0.1)
