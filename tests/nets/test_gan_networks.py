"""Networks of GANs: what they cost in memory of the batch, how they are conditioned, what they equal."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from aigc_lab.modules.ema import update_average
from aigc_lab.nets.architecture import Architecture
from aigc_lab.nets.conditional import (
    AuxiliaryClassifier,
    ClassNorms,
    ConcatenatedLatent,
    ConcatenatedMaps,
    DiscriminatorCondition,
    GeneratorCondition,
    Projection,
    one_hot,
)
from aigc_lab.nets.conv import Conv
from aigc_lab.nets.dcgan import DCGAN
from aigc_lab.nets.mlp import MLP
from aigc_lab.nets.modern import Modern
from aigc_lab.nets.norms import ClassBatchNorm, with_spectral_norm
from aigc_lab.nets.resnet_gan import ResNetGAN
from aigc_lab.nets.upsample import UpsampleConv

NETWORKS: dict[str, Architecture] = {
    "dcgan": DCGAN(width=4, max_width=8, encoder_norm=False),
    "dcgan_norm": DCGAN(width=4, max_width=8, encoder_norm=True),
    "resnet": ResNetGAN(width=6),
    "modern": Modern(width=4, max_width=8, n_blocks=1, expansion=2, group_size=4),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    "shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 128, 128), (2, 10, 14), (1, 17, 23)], ids=str
)
def test_both_directions_fit_the_image(name: str, shape: tuple[int, ...]) -> None:
    images = torch.randn(3, *shape)
    assert NETWORKS[name].encoder(shape, 5)(images).shape == (3, 5)
    assert NETWORKS[name].decoder(6, shape)(torch.randn(3, 6)).shape == (3, *shape)


def test_the_residual_discriminator_sums_over_all_places() -> None:
    network = NETWORKS["resnet"].encoder((1, 16, 16), 5)
    images = torch.randn(3, 1, 16, 16)
    places = network[:-2](images)
    assert places.shape[2:] == (4, 4)
    torch.testing.assert_close(network(images), network[-1](places.sum((2, 3))))


def test_modern_branches_begin_the_smaller_the_deeper_the_network_is() -> None:
    """Fixup: by L^(-1/4) for L blocks of three layers, the last of which is 0."""
    shallow, deep = (
        Modern(width=64, max_width=64, n_blocks=n, expansion=2, group_size=64).encoder((1, 4, 4), 1)
        for n in (1, 16)
    )
    first, sixteenth = (
        next(p for p in network.parameters() if p.shape == (128, 64, 1, 1)) for network in (shallow, deep)
    )
    assert float(sixteenth.std() / first.std()) == pytest.approx(0.5, rel=0.05)


def test_what_cannot_be_halved_or_grouped_is_said() -> None:
    for network in (Conv(width=4, max_width=8), NETWORKS["resnet"], NETWORKS["modern"]):
        with pytest.raises(ValueError, match="63x64 pixels can be halved to 63x64 only"):
            network.encoder((1, 63, 64), 1)
    with pytest.raises(ValueError, match="4 x 9 are there already"):
        NETWORKS["dcgan"].encoder((1, 4, 9), 1)
    with pytest.raises(ValueError, match="group_size=3"):
        Modern(width=4, max_width=4, n_blocks=1, expansion=2, group_size=3).decoder(2, (1, 8, 8))
    with pytest.raises(ValueError, match="MLP has no BatchNorm"):
        ClassNorms().generator(MLP(hidden=[4]), 2, (1, 8, 8), 3)


@pytest.mark.parametrize("name", ["dcgan", "resnet", "modern"])
def test_these_discriminators_see_each_image_alone(name: str) -> None:
    network = NETWORKS[name].encoder((1, 8, 8), 5)
    images = torch.randn(7, 1, 8, 8)
    alone = torch.cat([network(image[None]) for image in images])
    torch.testing.assert_close(network(images), alone, rtol=1e-4, atol=1e-5)


def test_modern_blocks_begin_as_the_identity() -> None:
    """So that a network of any depth says at first what its resampling alone would say."""
    torch.manual_seed(0)
    outputs = []
    for n_blocks in (1, 4):
        torch.manual_seed(0)
        network = Modern(width=8, max_width=8, n_blocks=n_blocks, expansion=2, group_size=4).encoder((1, 8, 8), 3)
        kept = nn.Sequential(*(m for m in network if type(m).__name__ != "_Block"))
        images = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(network(images), kept(images))
        outputs.append(network(images).std())
    assert all(0.1 < spread < 10 for spread in outputs)


@pytest.mark.parametrize("sides", [(1, 1), (2, 3), (7, 7)])
def test_upsampling_and_convolving_is_one_transposed_convolution(sides: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer = UpsampleConv(5, 4)
    x = torch.randn(3, 5, *sides, requires_grad=True)
    expected = F.conv2d(F.interpolate(x, scale_factor=2), layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)
    weights = (layer.weight, x)
    for ours, theirs in zip(
        torch.autograd.grad(layer(x).square().sum(), weights),
        torch.autograd.grad(expected.square().sum(), weights),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert list(layer.state_dict()) == ["weight", "bias"], "those of the convolution that it stands for"


def test_a_class_norm_is_batch_norm_with_the_classes_own_gain_and_bias() -> None:
    torch.manual_seed(0)
    layer, plain = ClassBatchNorm(4, 3), nn.BatchNorm2d(4, affine=False)
    nn.init.normal_(layer.gain)
    nn.init.normal_(layer.bias)
    x, labels = torch.randn(6, 4, 5, 5), torch.tensor([0, 1, 2, 0, 1, 2])
    normal = plain(x)
    for found, image, label in zip(layer(x, one_hot(labels, 3)), normal, labels, strict=True):
        expected = image * layer.gain[label][:, None, None] + layer.bias[label][:, None, None]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "condition"),
    [
        ("modern", ConcatenatedLatent()),
        ("dcgan", ConcatenatedLatent()),
        ("dcgan", ClassNorms()),
        ("resnet", ClassNorms()),
    ],
)
def test_a_conditioned_generator_sees_the_class(name: str, condition: GeneratorCondition) -> None:
    torch.manual_seed(0)
    network = condition.generator(NETWORKS[name], 4, (1, 8, 8), 3)
    for parameter in network.parameters():  # gains begin alike for all classes
        nn.init.normal_(parameter)
    z = torch.randn(5, 4)
    images = [network(torch.cat([z, one_hot(torch.full((5,), label), 3)], 1)) for label in range(3)]
    assert images[0].shape == (5, 1, 8, 8)
    assert not images[0].allclose(images[1]) and not images[1].allclose(images[2])


CONDITIONS: list[DiscriminatorCondition] = [
    ConcatenatedMaps(),
    Projection(n_features=6),
    AuxiliaryClassifier(weight=2.0),
]


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda c: type(c).__name__)
def test_a_conditioned_discriminator_holds_the_class_against_the_image(condition: DiscriminatorCondition) -> None:
    torch.manual_seed(0)
    network = condition.discriminator(Conv(width=4, max_width=8), (1, 8, 8), 3)
    images, labels = torch.randn(6, 1, 8, 8), torch.tensor([0, 1, 2, 0, 1, 2])
    right, wrong = network(images, one_hot(labels, 3)), network(images, one_hot((labels + 1) % 3, 3))
    assert right.logits.shape == (6, 1) and right.class_loss.shape == ()
    if isinstance(condition, AuxiliaryClassifier):
        assert torch.equal(right.logits, wrong.logits) and right.class_loss != wrong.class_loss
        by_hand = F.cross_entropy(network.network(images)[:, 1:], labels)
        torch.testing.assert_close(right.class_loss, 2 * by_hand)
    else:
        assert not right.logits.allclose(wrong.logits) and right.class_loss == 0
    if isinstance(condition, Projection):
        features = F.leaky_relu(network.features(images), 0.2)
        along = (network.classes.weight.T[labels] * features).sum(1, keepdim=True)
        torch.testing.assert_close(right.logits, network.head(features) + along)


def test_spectral_norm_divides_by_the_largest_singular_value() -> None:
    torch.manual_seed(0)
    network = with_spectral_norm(DCGAN(width=4, max_width=8, encoder_norm=False).encoder((1, 8, 8), 1))
    for _ in range(100):  # power iterations
        network(torch.randn(2, 1, 8, 8))
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == 2
    for layer in layers:
        assert float(torch.linalg.matrix_norm(layer.weight.flatten(1), 2)) == pytest.approx(1, abs=1e-3)


def test_the_average_has_statistics_of_its_own() -> None:
    """A generator with BatchNorm is sampled in evaluation mode: what it then divides by must be of its weights."""
    current, average = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
    current.running_mean.fill_(1.0)
    current.num_batches_tracked.fill_(7)
    update_average(average, current, decay=0.75, step=1000)
    assert average.running_mean.tolist() == [0.25, 0.25] and int(average.num_batches_tracked) == 7
    update_average(average, current, decay=0.75, step=0)
    assert average.running_mean.tolist() == pytest.approx([0.925, 0.925]), "at first by (1 + t) / (10 + t) = 0.1"
