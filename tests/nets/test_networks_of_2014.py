"""The networks of Goodfellow et al. 2014 against hand computations."""

import pytest
import torch
from torch import nn

from aigc_lab.nets.maxout import Maxout, MaxoutLayer
from aigc_lab.nets.rectifier import Rectifier, SigmoidImages

SHAPE = (1, 2, 2)


def test_a_maxout_layer_against_a_hand_computation() -> None:
    """Two units of two pieces on x = (1, -2): max(1, -2 + 1) = 1 and max(-1 + 4, 3) = 3."""
    layer = MaxoutLayer(2, 2, 2, None)
    first, second = [[1.0, 0.0], [-1.0, -2.0]], [[0.0, 1.0], [0.0, 0.0]]
    with torch.no_grad():
        layer.linear.weight.copy_(torch.tensor(first + second))
        layer.linear.bias.copy_(torch.tensor([0.0, 0.0, 1.0, 3.0]))
    assert layer(torch.tensor([[1.0, -2.0]])).tolist() == [[1.0, 3.0]]


def test_maxout_of_opposite_pieces_is_the_absolute_value() -> None:
    layer = MaxoutLayer(3, 3, 2, None)
    with torch.no_grad():
        layer.linear.weight.copy_(torch.cat([torch.eye(3), -torch.eye(3)]))
        layer.linear.bias.zero_()
    x = torch.randn(5, 3)
    torch.testing.assert_close(layer(x), x.abs())


def test_the_discriminator_has_the_size_and_the_start_of_2014() -> None:
    network = Maxout(hidden=[240, 240], pieces=5, input_dropout=0.2, dropout=0.5, init_range=0.005)
    discriminator = network.encoder((1, 28, 28), 1)
    assert sum(p.numel() for p in discriminator.parameters()) == 785 * 1200 + 241 * 1200 + 241
    assert [m.p for m in discriminator.modules() if isinstance(m, nn.Dropout)] == [0.2, 0.5, 0.5]
    for name, parameter in discriminator.named_parameters():
        largest = parameter.abs().max()
        assert largest == 0 if name.endswith("bias") else 0.004 < largest <= 0.005


def test_dropped_inputs_are_black_and_the_expectation_is_kept() -> None:
    """On linear layers the mean over masks is what evaluation computes; a black image has nothing to drop."""
    torch.manual_seed(0)
    network = Maxout(hidden=[], pieces=1, input_dropout=0.5, dropout=0.0, init_range=None).encoder(SHAPE, 1)
    image = torch.rand(1, *SHAPE)
    drawn = network(image.expand(20_000, *SHAPE))
    torch.testing.assert_close(drawn.mean(0), network.eval()(image)[0], atol=0.02, rtol=0)
    black = network.train()(-torch.ones(50, *SHAPE))
    assert black.unique().numel() == 1


@pytest.mark.parametrize("hidden", [[], [7, 5]])
def test_the_generators_tanh_is_a_sigmoid(hidden: list[int]) -> None:
    torch.manual_seed(0)
    network = Rectifier(hidden=hidden, init_range=None).decoder(3, SHAPE)
    assert isinstance(network, SigmoidImages)
    z = torch.randn(6, 3)
    intensities = (network(z).tanh() + 1) / 2
    torch.testing.assert_close(intensities.flatten(1), network.layers(z).sigmoid())


def test_a_generator_starts_at_the_means_of_the_pixels() -> None:
    network = Rectifier(hidden=[4], init_range=0.05).decoder(3, SHAPE)
    assert isinstance(network, SigmoidImages)
    mean = torch.tensor([[[0.0, 0.25], [0.5, 0.9]]])
    network.start_at(mean)
    image = (network(torch.zeros(1, 3)).tanh() + 1) / 2  # of z = 0 the bias alone is seen
    torch.testing.assert_close(image[0], mean, atol=2e-7, rtol=1e-5)
