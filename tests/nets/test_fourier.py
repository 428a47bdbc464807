import math

import pytest
import torch

from aigc_lab.nets.fourier import FourierFeatures, FourierMLP

ARCHITECTURE = FourierMLP(hidden=[16, 16], n_features=8, lowest=0.5, highest=32.0)


def test_the_features_of_a_point_by_hand() -> None:
    features = FourierFeatures(torch.tensor([[0.25, 0.0], [1.0, 1.0]]))
    expected = [1.0, 0.5, 1.0, 0.0, 0.0, -1.0]  # x; sin π/2, sin 3π; cos π/2, cos 3π
    torch.testing.assert_close(features(torch.tensor([[1.0, 0.5]])), torch.tensor([expected]), atol=1e-5, rtol=0)
    assert features.n_out == len(expected)


@pytest.mark.parametrize("shape", [(2,), (1,), (1, 4, 4)], ids=str)
def test_both_directions_fit(shape: tuple[int, ...]) -> None:
    items = torch.randn(3, *shape)
    assert ARCHITECTURE.encoder(shape, 5)(items).shape == (3, 5)
    assert ARCHITECTURE.decoder(6, shape)(torch.randn(3, 6)).shape == (3, *shape)


def test_frequencies_reach_from_the_lowest_to_the_highest_in_equal_ratios() -> None:
    lengths = ARCHITECTURE.encoder((2,), 1)[1].frequencies.norm(dim=1)
    torch.testing.assert_close(lengths[1:] / lengths[:-1], torch.full((7,), 64 ** (1 / 7)))
    assert lengths[0] == pytest.approx(0.5) and lengths[-1] == pytest.approx(32.0)


def test_the_frequencies_are_saved_but_not_learned() -> None:
    network = ARCHITECTURE.encoder((2,), 1)
    assert "1.frequencies" in network.state_dict()
    assert all("frequencies" not in name for name, _ in network.named_parameters())


def test_it_sees_what_a_perceptron_does_not() -> None:
    """A wave of 8 periods on [-1, 1], learned in 200 steps."""
    torch.manual_seed(0)
    x = torch.linspace(-1, 1, 256)[:, None]
    wave = (8 * math.pi * x).sin()
    network = FourierMLP(hidden=[32], n_features=16, lowest=0.5, highest=8.0).encoder((1,), 1)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(200):
        loss = (network(x) - wave).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.02, "the wave's variance is 0.5"
