import pytest
import torch

from aigc_lab.nets.architecture import Architecture
from aigc_lab.nets.conv import Conv, halvings
from aigc_lab.nets.maxout import Maxout
from aigc_lab.nets.mlp import MLP, MaxoutMLP, NormalisedMLP, SmoothMLP, SteppedMLP
from aigc_lab.nets.rectifier import Rectifier

ARCHITECTURES = {
    "mlp": MLP(hidden=[12, 10]),
    "smooth": SmoothMLP(hidden=[12, 10]),
    "conv": Conv(width=4, max_width=8),
    "rectifier": Rectifier(hidden=[12, 10], init_range=None),
    "maxout": Maxout(hidden=[12, 10], pieces=3, input_dropout=0.0, dropout=0.0, init_range=0.1),
}
SHAPES = [(1, 8, 8), (3, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64), (1, 9, 9), (1, 10, 14), (2, 5, 8)]


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES.keys())
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_both_directions_fit_the_image(architecture: Architecture, shape: tuple[int, ...]) -> None:
    images = torch.randn(3, *shape)
    assert architecture.encoder(shape, 5)(images).shape == (3, 5)
    assert architecture.decoder(6, shape)(torch.randn(3, 6)).shape == (3, *shape)


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES.keys())
def test_an_images_output_does_not_depend_on_its_batch(architecture: Architecture) -> None:
    """Gradient penalties and distributed runs rely on it: no statistics of the batch."""
    network = architecture.encoder((1, 8, 8), 5)
    images = torch.randn(7, 1, 8, 8)
    alone = torch.cat([network(image[None]) for image in images])
    torch.testing.assert_close(network(images), alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("side", "n"), [(8, 1), (28, 2), (32, 3), (64, 4), (9, 0), (10, 1), (4, 0)])
def test_sides_halve_while_even_and_above_4(side: int, n: int) -> None:
    assert halvings(side, side) == n


def test_the_convolutional_pair_keeps_the_variance() -> None:
    """A network that dims or blows up its signal at initialisation trains badly at any learning rate."""
    torch.manual_seed(0)
    architecture = Conv(width=16, max_width=64)
    logits = architecture.encoder((1, 32, 32), 1)(torch.randn(64, 1, 32, 32))
    images = architecture.decoder(32, (1, 32, 32))(torch.randn(64, 32))
    assert 0.01 < logits.std() < 2
    assert 0.02 < images.std() < 2


def test_the_networks_of_pacgan() -> None:
    """Maxout of pieces by hand, and layers that a batch leaves with mean 0 and variance 1 before the ReLU."""
    judge = MaxoutMLP(hidden=[3], pieces=2, init_sd=0.5).encoder((2,), 1)
    x = torch.randn(50, 2)
    hidden, output = (layer for layer in judge if isinstance(layer, torch.nn.Linear))
    pieces = x @ hidden.weight.T + hidden.bias
    torch.testing.assert_close(judge(x), output(torch.maximum(pieces[:, :3], pieces[:, 3:])))
    make = NormalisedMLP(hidden=[400, 400], init_sd=0.02).decoder(2, (2,))
    layers = [layer for layer in make if isinstance(layer, torch.nn.Linear)]
    assert [layer.weight.shape for layer in layers] == [(400, 2), (400, 400), (2, 400)]
    assert float(layers[1].weight.std()) == pytest.approx(0.02, rel=0.02) and not layers[1].bias.any()
    normalised = make[:2](100 * x)  # so wide that eps does not matter
    assert float(normalised.mean(0).abs().max()) < 1e-5 and float(normalised.var(0, correction=0).min()) > 0.9


def test_a_stepped_perceptron_sees_of_its_first_inputs_only_the_signs() -> None:
    network = SteppedMLP(hidden=[16], n_signs=2).decoder(3, (2,))
    z = torch.randn(50, 3)
    assert torch.equal(network(z), network(z * torch.tensor([3.0, 0.1, 1.0])))
    for i in range(3):
        assert not network(z).isclose(network(z * (1 - 2 * torch.eye(3)[i]))).any(), "each input counts"
    with pytest.raises(ValueError, match="n_signs=2: there are 1 inputs"):
        SteppedMLP(hidden=[16], n_signs=2).decoder(1, (2,))
