import pytest
import torch
from torch import nn

from aigc_lab.objectives import penalties
from aigc_lab.objectives.augment import AdaptiveAugment
from aigc_lab.objectives.penalties import (
    R1,
    R2,
    Consistency,
    Dragan,
    GradientPenalty,
    LeCam,
    squared_gradient_norm,
)


def test_r1_of_a_linear_discriminator_is_gamma_halves_the_squared_weight() -> None:
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    images = torch.randn(5, 3, 2, 2)
    penalty = R1(gamma=3.0, final=1.0)(discriminator, images, images, 0.5)
    weight = discriminator[1].weight
    assert penalty.item() == pytest.approx(1.5 * weight.square().sum().item(), rel=1e-6)
    penalty.backward()
    torch.testing.assert_close(weight.grad, 3.0 * weight)  # a double backward, exact here


def test_r1_is_on_the_data_and_r2_on_the_samples() -> None:
    """D(x) = x²/2 has slope x."""
    real, fake = torch.full((4, 1), 2.0), torch.full((4, 1), 3.0)
    assert R1(gamma=1.0, final=1.0)(lambda x: x.square() / 2, real, fake, 0.0).item() == pytest.approx(2.0)
    assert R2(gamma=1.0, final=1.0)(lambda x: x.square() / 2, real, fake, 0.0).item() == pytest.approx(4.5)


@pytest.mark.parametrize("penalty", [R1(gamma=2.0, final=0.01), R2(gamma=2.0, final=0.01)])
def test_gamma_moves_geometrically_to_its_final_share(penalty: R1 | R2) -> None:
    x = torch.ones(3, 1)
    values = [float(penalty(torch.Tensor.double, x, x, progress)) for progress in (0.0, 0.5, 1.0)]
    assert values == pytest.approx([1.0, 0.1, 0.01])


def test_the_gradient_is_per_image() -> None:
    """D(x) = |x|^4 / 4 has gradient |x|² x, squared norm |x|^6."""
    images = torch.randn(4, 1, 3, 3, dtype=torch.float64)
    norms = squared_gradient_norm(lambda x: x.flatten(1).square().sum(1) ** 2 / 4, images)
    torch.testing.assert_close(norms, images.flatten(1).square().sum(1) ** 3)


def test_the_gradient_penalty_of_a_linear_critic() -> None:
    """λ(|w| - 1)² wherever it is taken; its gradient is 2λ(|w| - 1) w/|w|."""
    critic = nn.Linear(3, 1, bias=False).double()
    weight = critic.weight
    penalty = GradientPenalty(weight=10.0)(critic, torch.randn(6, 3).double(), torch.randn(6, 3).double(), 0.0)
    norm = weight.detach().norm()
    assert penalty.item() == pytest.approx(10 * (norm.item() - 1) ** 2)
    penalty.backward()
    torch.testing.assert_close(weight.grad, 20 * (norm - 1) * weight.detach() / norm)


def test_the_gradient_penalty_overestimates_w1_of_two_diracs_by_its_known_amount() -> None:
    """Real at 0, fake at δ, D(x) = -wx: max of wδ - λ(w - 1)² is at w = 1 + δ/2λ."""
    w = torch.tensor(1.05, dtype=torch.float64, requires_grad=True)
    real, fake = torch.zeros(2, 1).double(), torch.ones(2, 1).double()
    penalty = GradientPenalty(weight=10.0)(lambda x: -w * x, real, fake, 0.0)
    loss = (-w * fake).mean() + penalty  # E[D] is 0 at 0
    (slope,) = torch.autograd.grad(loss, w)
    assert abs(float(slope)) < 1e-12
    assert -loss.item() == pytest.approx(1.025)


def test_the_gradient_penalty_is_taken_between_the_real_and_the_generated_items() -> None:
    seen: list[torch.Tensor] = []

    def critic(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.detach())
        return x.sum(1)

    real, fake = torch.zeros(500, 2), torch.tensor([[1.0, 3.0]]).expand(500, 2)
    GradientPenalty(weight=1.0)(critic, real, fake, 0.0)
    share = seen[0] / fake
    torch.testing.assert_close(share[:, 0], share[:, 1])  # on the line
    assert share.min() >= 0
    assert share.max() <= 1
    assert 0.4 < share.mean() < 0.6


def test_a_flat_critic_has_a_finite_penalty_and_gradient() -> None:
    """At slope 0 the norm has no derivative; 0 is taken, not NaN."""
    critic = nn.Linear(3, 1)
    nn.init.zeros_(critic.weight)
    penalty = GradientPenalty(weight=1.0)(critic, torch.randn(4, 3), torch.randn(4, 3), 0.0)
    penalty.backward()
    assert penalty.item() == 1.0 and torch.isfinite(critic.weight.grad).all()


def test_dragan_asks_for_a_slope_of_one_around_real_data() -> None:
    """Of a linear D the slope is w everywhere."""
    w = torch.tensor([3.0, 4.0])
    penalty = Dragan(weight=10.0)(lambda x: x @ w, torch.randn(6, 2), torch.randn(6, 2), 0.0)
    assert float(penalty) == pytest.approx(10 * (5 - 1) ** 2)


def test_dragan_is_around_real_data_whatever_the_samples_are() -> None:
    """Of D(x) = ||x||² / 2 the slope is x. Equal numbers have no deviation, so that nothing is added to them."""
    real = torch.full((6, 4), 3.0)
    penalty = Dragan(weight=10.0)(lambda x: x.square().sum(1) / 2, real, torch.randn(6, 4), 0.0)
    assert float(penalty.detach()) == pytest.approx(10 * (6 - 1) ** 2)


def test_dragan_looks_at_most_half_a_deviation_beside_the_data() -> None:
    """In every number by its own share of an item's share, upwards."""
    torch.manual_seed(0)
    real, seen = 3 * torch.randn(400, 300), []

    def critic(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.detach())
        return x.sum(1)

    Dragan(weight=1.0)(critic, real, torch.randn(400, 300), 0.0)
    moved = (seen[0] - real) / (real.std() / 2)
    assert moved.min() > -1e-5 and 0.95 < moved.max() < 1
    share = moved.amax(1)
    assert share.min() < 0.05 and abs(share.mean() - 0.5) < 0.05
    torch.testing.assert_close(moved.mean(1) / share, torch.full((400,), 0.5), atol=0.1, rtol=0)


def test_consistency_is_what_the_change_does_to_the_output() -> None:
    """Of a sum over pixels and a brightening by 1, that is the number of pixels."""
    penalty = Consistency(weight=2.0, augment=lambda x: x + 1)
    images = torch.randn(5, 1, 2, 3)
    value = penalty(lambda x: x.flatten(1).sum(1), images, images, 0.0)
    assert float(value) == pytest.approx(2 * 2 * 6**2, rel=1e-4)
    with pytest.raises(ValueError, match="nobody steers"):
        Consistency(weight=2.0, augment=AdaptiveAugment(changes=["colour"], target=0.6, ramp=64))


def test_lecam_holds_d_to_what_it_used_to_say_of_the_other_side() -> None:
    penalty = LeCam(weight=0.5, decay=0.75)
    real, fake = torch.full((4,), 2.0), torch.full((4,), -1.0)
    first = penalty(lambda x: x, real, fake, 0.0)
    assert float(first) == pytest.approx(0.5 * (2**2 + 1**2)), "the averages begin at 0"
    assert penalty.averages.tolist() == [0.5, -0.25]
    second = penalty(lambda x: x, real, fake, 0.0)
    assert float(second) == pytest.approx(0.5 * (2.25**2 + 1.5**2))
    assert list(penalty.state_dict()) == ["averages"], "a resumed run goes on with them"


def test_lecams_averages_are_those_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside this process another one, whose D says 6 of real and 1 of generated items."""
    monkeypatch.setattr(penalties.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(penalties.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(penalties.distributed, "all_reduce", lambda means: means.add_(torch.tensor([6.0, 1.0])))
    penalty = LeCam(weight=0.5, decay=0.75)
    penalty(lambda x: x, torch.full((4,), 2.0), torch.full((4,), -1.0), 0.0)
    assert penalty.averages.tolist() == [0.25 * 4.0, 0.25 * 0.0]
