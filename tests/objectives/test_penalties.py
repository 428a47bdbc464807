import pytest
import torch
from torch import nn

from aigc_lab.objectives.penalties import R1, squared_gradient_norm


def test_r1_of_a_linear_discriminator_is_gamma_halves_the_squared_weight() -> None:
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    penalty = R1(gamma=3.0)(discriminator, torch.randn(5, 3, 2, 2), torch.randn(5, 3, 2, 2))
    weight = discriminator[1].weight
    assert penalty.item() == pytest.approx(1.5 * weight.square().sum().item(), rel=1e-6)
    penalty.backward()
    torch.testing.assert_close(weight.grad, 3.0 * weight)  # a double backward, exact here


def test_the_gradient_is_per_image() -> None:
    """D(x) = |x|^4 / 4 has gradient |x|² x, squared norm |x|^6."""
    images = torch.randn(4, 1, 3, 3, dtype=torch.float64)
    norms = squared_gradient_norm(lambda x: x.flatten(1).square().sum(1) ** 2 / 4, images)
    torch.testing.assert_close(norms, images.flatten(1).square().sum(1) ** 3)
