"""What has no exact value is refused, in one line that says why."""

from collections.abc import Callable
from typing import ClassVar

import pytest
import torch
from torch import Tensor
from torch.distributions import (
    Beta,
    Categorical,
    Cauchy,
    Distribution,
    Independent,
    MultivariateNormal,
    Normal,
    TransformedDistribution,
    Uniform,
    VonMises,
    constraints,
)
from torch.distributions.transforms import AbsTransform

from aigc_lab.minimax import exact

LINE = Normal(0.0, 1.0)
PLANE = MultivariateNormal(torch.zeros(2), torch.eye(2))


class Half(Normal):
    """Not normalised: its mass is 1/2."""

    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value) - torch.tensor(2.0).log()


class Bare(Distribution):
    """A law of one's own, with nothing but a density."""

    arg_constraints: ClassVar = {}

    def log_prob(self, value: Tensor) -> Tensor:
        return LINE.log_prob(value)


class Undrawn(Bare):
    """The same that states its support, and cannot be sampled."""

    support = constraints.real


@pytest.mark.parametrize(
    ("p", "q", "message"),
    [
        (LINE, Categorical(torch.ones(3)), "one law is discrete and the other continuous"),
        (LINE, PLANE, r"different spaces: \(\) and \(2,\)"),
        (*[MultivariateNormal(torch.zeros(3), torch.eye(3))] * 2, r"not on \(3,\)"),
        (*[Independent(Normal(torch.zeros(2, 2), torch.ones(2, 2)), 2)] * 2, r"not on \(2, 2\)"),
        (Normal(torch.zeros(2), torch.ones(2)), LINE, r"p is a batch of laws, of shape \(2,\)"),
        (LINE, 3.0, "q must be a torch.distributions.Distribution, not float"),
        (LINE, Half(0.0, 1.0), "q is not a normalised density: it integrates to 0.5"),
        (VonMises(0.0, 1.0), LINE, "p is not a normalised density"),
        (Beta(0.05, 0.05), Uniform(0.0, 1.0), "p is not a normalised density"),  # its mass lies within 1e-16 of 1
        (*[Independent(Categorical(torch.ones(2, 3)), 1)] * 2, "cannot be enumerated"),
        (LINE, Bare(validate_args=False), "a Bare does not give its support: it is not implemented"),
        (Undrawn(validate_args=False), LINE, "a Undrawn does not give samples: it is not implemented"),
        (TransformedDistribution(LINE, AbsTransform()), LINE, "TransformedDistribution does not give its density"),
        (
            Normal(0.0, -1.0, validate_args=False),
            LINE,
            "a Normal does not give samples: normal expects all elements",
        ),
    ],
)
def test_pairs_without_an_exact_value(p: Distribution, q: Distribution, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refusal:
        exact.jensen_shannon(p, q)
    assert "\n" not in str(refusal.value)


def test_values_that_are_computed_on_the_line_only() -> None:
    for value in (exact.wasserstein_value, exact.relativistic_value):
        with pytest.raises(ValueError, match="on the line"):
            value(PLANE, PLANE)


def test_gradients_that_do_not_exist() -> None:
    with pytest.raises(ValueError, match="whole line"):
        exact.saturating_gradient(LINE, Uniform(0.0, 1.0))
    with pytest.raises(ValueError, match="whole line"):
        exact.saturating_gradient(PLANE, PLANE)
    with pytest.raises(ValueError, match="does not exist"):
        exact.non_saturating_gradient(Uniform(0.0, 1.0), LINE)
    with pytest.raises(ValueError, match="does not exist"):
        exact.non_saturating_gradient(LINE, Cauchy(1.0, 1.0))
    assert exact.saturating_gradient(Uniform(-1.0, 1.0), LINE) == pytest.approx(0, abs=1e-12)  # p may have edges


def test_discriminators_that_are_none() -> None:
    with pytest.raises(ValueError, match="must return probabilities"):
        exact.value(lambda x: 0.5 - x, LINE, LINE)
    with pytest.raises(ValueError, match="one number per point"):
        exact.value(lambda x: torch.full((len(x), 1), 0.5), LINE, LINE)
    network = torch.nn.Linear(2, 1)
    with pytest.raises(
        ValueError, match=r"does not take float64 points \[\d+, 2\]: mat1 and mat2 must have"
    ) as no:
        exact.value(exact.Discriminator(lambda x: network(x).flatten()), PLANE, PLANE)
    assert "\n" not in str(no.value)


@pytest.mark.parametrize(
    ("critic", "message"),
    [
        (lambda x: x[:, None] * torch.ones(2), "one number per point"),
        (lambda x: x * float("nan"), "NaN where a law has mass"),
        (lambda x: torch.nn.Linear(3, 1)(x), "does not take float64 points"),
    ],
)
def test_critics_that_are_no_functions_of_points(critic: Callable[[Tensor], Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        exact.KL.dual_value(critic, LINE, Normal(1.0, 1.0))


def test_a_critic_may_be_one_number() -> None:
    assert exact.KL.dual_value(lambda x: 1.0, LINE, Normal(1.0, 1.0)) == pytest.approx(0, abs=1e-9)  # type: ignore
