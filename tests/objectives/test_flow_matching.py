"""Paths and solvers against what is known in closed form."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from aigc_lab.objectives.flow_matching import (
    ClassifierFree,
    StraightPath,
    squared_error,
)
from aigc_lab.objectives.ode import Euler, Field, Heun, Midpoint, RungeKutta4, Solver, integrate

SOLVERS: list[Solver] = [Euler(), Midpoint(), Heun(), RungeKutta4()]


def normal_velocity(mean: float, sd: float, sigma_min: float = 0.0) -> Callable[[Tensor, float], Tensor]:
    """E[u | x_t = x] where x_1 ~ N(mean, sd² I): u and x_t are jointly normal, so it is linear in x."""

    def velocity(x: Tensor, t: float) -> Tensor:
        noise = 1 - (1 - sigma_min) * t
        slope = (t * sd**2 - (1 - sigma_min) * noise) / (noise**2 + t**2 * sd**2)
        return mean + slope * (x - t * mean)

    return velocity


def test_a_path_begins_at_the_noise_and_ends_within_sigma_of_the_item_and_its_slope_is_the_velocity() -> None:
    path, (x_0, x_1) = StraightPath(sigma_min=0.1), torch.randn(2, 5, 3, dtype=torch.double)
    t = torch.rand(5, dtype=torch.double)
    torch.testing.assert_close(path.at(x_0, x_1, torch.zeros(5).double()), x_0)
    torch.testing.assert_close(path.at(x_0, x_1, torch.ones(5).double()), x_1 + 0.1 * x_0)
    slope = (path.at(x_0, x_1, t + 0.5) - path.at(x_0, x_1, t)) / 0.5
    torch.testing.assert_close(path.velocity(x_0, x_1), slope)


def test_the_best_velocity_of_a_normal_law_is_the_known_one() -> None:
    """Least squares of u on x_t, which is what the loss asks for, finds its slope and offset; its error is what
    remains: Var u - slope² Var x_t."""
    mean, sd, sigma_min, t = 1.5, 0.5, 0.1, 0.7
    path, n = StraightPath(sigma_min=sigma_min), 400_000
    x_0, x_1 = torch.randn(n, 1, dtype=torch.double), mean + sd * torch.randn(n, 1, dtype=torch.double)
    x_t, u = path.at(x_0, x_1, torch.full((n,), t)), path.velocity(x_0, x_1)
    known = normal_velocity(mean, sd, sigma_min)
    fitted = torch.linalg.lstsq(torch.cat([x_t, torch.ones_like(x_t)], 1), u).solution.squeeze(1)
    at_0, at_1 = known(torch.tensor([0.0, 1.0], dtype=torch.double), t)
    torch.testing.assert_close(fitted, torch.stack([at_1 - at_0, at_0]), rtol=0, atol=0.01)
    variance_u, variance_x = sd**2 + 0.9**2, (1 - 0.9 * t) ** 2 + (t * sd) ** 2
    remains = variance_u - float(at_1 - at_0) ** 2 * variance_x
    assert squared_error(known(x_t, t), u).mean().item() == pytest.approx(remains, rel=0.01)


def order(solver: Solver, field: Field, end: Tensor, x: Tensor) -> float:
    """By which power of the step the error falls where the solution goes from x at 0 to `end` at 1/2."""

    def error(n_steps: int) -> float:
        return float((integrate(solver, field, x, begin=0.0, end=0.5, n_steps=n_steps) - end).abs().max())

    return math.log2(error(40) / error(80))


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
def test_halving_the_steps_divides_the_error_by_two_to_the_order(solver: Solver) -> None:
    """Of dx/dt = x² cos t, x = 1 / (1/x_0 - sin t); and of the flow from noise to a normal law, x_t = t mean +
    sd(x_t) x_0, where the midpoint's error falls with the third power."""
    x = torch.linspace(0.1, 1, 9, dtype=torch.double)
    known = 1 / (1 / x - math.sin(0.5))
    assert order(solver, lambda x, t: x.square() * math.cos(t), known, x) == pytest.approx(solver.order, abs=0.1)
    known = 0.5 * 1.0 + math.hypot(0.5, 0.5 * 0.4) * x
    of_flow = 3 if isinstance(solver, Midpoint) else solver.order
    assert order(solver, normal_velocity(1.0, 0.4), known, x) == pytest.approx(of_flow, abs=0.1)


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
def test_a_solver_evaluates_as_often_as_its_order_and_returns_where_it_came_from(solver: Solver) -> None:
    seen: list[float] = []

    def velocity(x: Tensor, t: float) -> Tensor:
        seen.append(t)
        return normal_velocity(1.0, 0.4)(x, t)

    x = torch.randn(5, dtype=torch.double)
    there = integrate(solver, velocity, x, begin=0.0, end=1.0, n_steps=100)
    assert len(seen) == 100 * solver.order and min(seen) == 0 and max(seen) <= 1 + 1e-12
    back = integrate(solver, velocity, there, begin=1.0, end=0.0, n_steps=100)
    torch.testing.assert_close(back, x, rtol=0, atol=0.1 if solver.order == 1 else 2e-3)


def test_guidance_goes_on_in_the_direction_of_the_class() -> None:
    without, given = torch.tensor([1.0, 2.0]), torch.tensor([2.0, 0.0])
    for weight, expected in [(0.0, without), (1.0, given), (3.0, torch.tensor([4.0, -4.0]))]:
        assert torch.equal(ClassifierFree(dropout=0.1, weight=weight).guided(without, given), expected)
