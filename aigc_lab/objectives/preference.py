"""Learning from preferences without a reward model."""

from torch import Tensor
from torch.nn import functional as F


def dpo_margin(policy_B2: Tensor, reference_B2: Tensor, *, beta: float) -> Tensor:
    """r(chosen) - r(rejected), [B], of the reward r(y) = beta log(p(y) / p_ref(y)) that a policy p is optimal for
    (Rafailov et al. 2023, equation 5, up to a function of the prompt).

    Args:
        policy_B2, reference_B2: log-probabilities of the chosen and of the rejected response, in nats.
        beta: how much a nat away from the reference costs.
    """
    rewards = beta * (policy_B2 - reference_B2)
    return rewards[:, 0] - rewards[:, 1]


def dpo(policy_B2: Tensor, reference_B2: Tensor, *, beta: float) -> Tensor:
    """-log σ(`dpo_margin`), [B]: minus the log-likelihood of the preferences under the model of Bradley and Terry
    (Rafailov et al. 2023, equation 7)."""
    return -F.logsigmoid(dpo_margin(policy_B2, reference_B2, beta=beta))
