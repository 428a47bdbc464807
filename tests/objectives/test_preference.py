"""Direct preference optimisation against its closed form and against a computation by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aigc_lab.objectives.preference import dpo, dpo_margin

nats = st.floats(-50, 0)


def test_its_optimum_is_the_policy_that_the_reward_asks_for() -> None:
    """With preferences drawn from Bradley and Terry's model of a reward r, the minimiser is p_ref exp(r / β) / Z
    (Rafailov et al. 2023, equation 4): four responses, all pairs, exact expectations."""
    beta, reward = 0.3, torch.tensor([0.0, 0.2, -0.4, 0.5], dtype=torch.float64)
    reference = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64).log()
    pairs = torch.cartesian_prod(torch.arange(4), torch.arange(4))
    weights = torch.sigmoid(reward[pairs[:, 0]] - reward[pairs[:, 1]])
    optimum = (reference + reward / beta).log_softmax(0)

    logits = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS(
        [logits], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-18, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        search.zero_grad()
        value = (weights * dpo(logits.log_softmax(0)[pairs], reference[pairs], beta=beta)).sum()
        value.backward()
        return value

    search.step(loss)
    torch.testing.assert_close(logits.log_softmax(0), optimum, atol=1e-6, rtol=0)


@given(st.tuples(nats, nats, nats, nats), st.floats(0.01, 5))
def test_it_is_what_a_hand_computes(values: tuple[float, float, float, float], beta: float) -> None:
    policy, reference = torch.tensor(values, dtype=torch.float64).view(2, 1, 2)
    odds = beta * ((values[0] - values[2]) - (values[1] - values[3]))
    assert float(dpo_margin(policy, reference, beta=beta)) == pytest.approx(odds, abs=1e-9)
    assert float(dpo(policy, reference, beta=beta)) == pytest.approx(np.logaddexp(0, -odds), abs=1e-9)


def test_a_policy_that_is_its_reference_has_no_preference() -> None:
    log_p = torch.randn(5, 2, dtype=torch.float64)
    torch.testing.assert_close(dpo(log_p, log_p, beta=0.7), torch.full((5,), math.log(2), dtype=torch.float64))
