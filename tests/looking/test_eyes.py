"""Style transfer, and the networks it sees with: a run's own, its data's classifier, torchvision's."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from conftest import train_these
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_looking import STEP, rng, scene_of
from torch import Tensor, nn
from torch.testing import assert_close

from aigc_lab.cli import main
from aigc_lab.errors import UserError
from aigc_lab.evaluation.features import ImageClassifier
from aigc_lab.flow import Flow
from aigc_lab.generators import load
from aigc_lab.looking.eyes import eyes_of, eyes_of_torchvision, network_of
from aigc_lab.looking.scene import look
from aigc_lab.looking.style import transfer
from aigc_lab.nets.codes import Strided
from aigc_lab.nets.conv import Conv
from aigc_lab.nets.unet import UNet
from aigc_lab.objectives.likelihoods import DiscretisedLogistic
from aigc_lab.objectives.ode import Euler
from aigc_lab.quantised import Quantised


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.effect_noise((40, 40), 80).save("noise.png")


def weights_of(name: str, **options: Any) -> dict[str, Tensor]:
    """Of a network of torchvision, all the same, so that a file of them is small."""
    with torch.device("meta"):
        network = torchvision.models.get_model(name, weights=None, **options)
    return {key: torch.full((), 0.01, dtype=w.dtype).expand(w.shape) for key, w in network.state_dict().items()}


def test_style_transfer_lowers_its_loss_and_stays_a_picture() -> None:
    torch.manual_seed(0)
    eyes = eyes_of(Conv(width=4, max_width=8).encoder((3, 8, 8), 2).to(memory_format=torch.channels_last), 3)
    assert len(eyes.style) == 2, "8x8 and 4x4; the vector behind them takes one size only"
    noise = torch.rand(40, 48, 3, generator=rng()).permute(2, 0, 1)[None] - 0.5  # as files have their colours
    stripes = torch.ones(1, 3, 32, 32)
    stripes[..., ::4] = -1
    seen: list[Tensor] = []
    picture, before, after = transfer(eyes, noise, stripes, steps=24, style_weight=100.0, watch=seen.append)
    assert after < before / 2 and picture.shape == noise.shape and picture.abs().max() <= 1
    assert len(seen) == 12
    same, nothing, still = transfer(eyes, stripes * 0.9, stripes * 0.9, steps=2, style_weight=100.0)
    assert nothing < 1e-6 and still < 1e-6
    assert_close(same, stripes * 0.9, rtol=0, atol=1e-3)
    with pytest.raises(UserError, match="the loss is inf: --style-weight is too large"):
        transfer(eyes, noise, stripes, steps=2, style_weight=1e300)


def test_samples_painted_in_a_style(tmp_path: Path) -> None:
    """By the run's own encoder, whatever the size of the picture."""
    conv = ["model/encoder=conv", "model.encoder.width=4", "model.encoder.max_width=8", "data.batch_size=8"]
    run = train_these(tmp_path / "runs", ["data=digits", "model=vae", *conv, "trainer.max_steps=2"])
    command = ["sample", str(run), "--what", "style", "--style", "noise.png", "-n", "4", "--steps", "2"]
    assert main([*command, "--output", "painted.png"]) == 0
    with Image.open("painted.png") as picture:
        assert picture.mode == "L" and picture.size == (2 * STEP + 2, 2 * STEP + 2)


@pytest.mark.parametrize("family", ["gan", "vae", "pixels"])
def test_a_run_without_convolutions_sees_with_the_classifier_of_its_data(
    family: str, trained: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []
    classifier = ImageClassifier.network

    def network(self: ImageClassifier, dataset: Any, cache_dir: Path) -> nn.Module:
        asked.append(cache_dir)
        return classifier(self, dataset, cache_dir)

    monkeypatch.setattr(ImageClassifier, "network", network)
    monkeypatch.setattr(ImageClassifier, "_train", lambda *untrained: None)
    view = look("style", scene_of(load(trained[family])), style=Path("noise.png"), steps=2)
    assert asked == [Path("cache")] and view.picture.size == (2 * STEP + 2, 2 * STEP + 2)


@pytest.mark.parametrize("kind", ["codes", "flow"])
def test_encoders_of_codes_and_velocities_see_by_themselves(kind: str, trained: dict[str, Path]) -> None:
    """Pictures whose sides are no multiples too, to the last pixel."""
    torch.manual_seed(0)
    spec = load(trained["flow"]).spec
    codes = Strided(n_codes=4, code_dim=2, width=8, halvings=2, blocks=1)
    generator = (
        Quantised(spec=spec, codes=codes, likelihood=DiscretisedLogistic(), emit="median")
        if kind == "codes"
        else Flow(spec=spec, velocity=UNet(widths=[8, 8], patch=2, n_blocks=1), solver=Euler(), n_steps=2)
    )
    network = network_of(generator)
    assert network is not None
    eyes = eyes_of(network, 1)
    assert len(eyes.style) == 2
    if isinstance(generator, Flow):
        assert not set(eyes.style) & set(generator.network.up.modules()), "the way down"  # type: ignore[operator]
    picture = torch.rand(1, 1, 41, 39, generator=rng()) - 0.5
    painted, before, after = transfer(eyes, picture, picture.round(), steps=8, style_weight=100.0)
    assert after < before and painted.shape == picture.shape
    assert (painted != picture)[..., -1, :].any() and (painted != picture)[..., -1].any()


def test_vgg_19_is_seen_by_the_layers_of_the_paper() -> None:
    """conv1_1 to conv5_1 and conv4_2, behind their rectifiers, with average pooling; by any other name too."""
    torch.save({k: w for k, w in weights_of("vgg19").items() if k.startswith("features.")}, "mine.pth")
    eyes = eyes_of_torchvision(Path("mine.pth"))
    place = {layer: name for name, layer in eyes.network[1].features.named_children()}  # type: ignore[index]
    assert [place[layer] for layer in eyes.style] == ["1", "6", "11", "20", "29"]
    assert place[eyes.content] == "22"
    kinds = {type(layer) for layer in place}
    assert nn.AvgPool2d in kinds and nn.MaxPool2d not in kinds


NETWORKS = {
    "vgg19-dcbb9e9d.pth": "vgg19",
    "vgg16_bn-6c64b313.pth": "vgg16_bn",
    "alexnet-owt-7be5be79.pth": "alexnet",
    "resnet18-f37072fd.pth": "resnet18",
    "wide_resnet50_2-95faca4d.pth": "wide_resnet50_2",
    "squeezenet1_1-b8a52dc0.pth": "squeezenet1_1",
}


@pytest.mark.parametrize("file", NETWORKS)
@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_of_torchvision_says_by_its_name_which_network_it_is(file: str, zipped: bool) -> None:
    """Files of before 2020, as VGG's are, are no zip archives. Classes may be others than ImageNet's."""
    torch.save(weights_of(NETWORKS[file], num_classes=7), file, _use_new_zipfile_serialization=zipped)
    eyes = eyes_of_torchvision(Path(file))
    assert len(eyes.style) >= 3 and eyes.channels == 3
    maps, deep = eyes.maps(torch.rand(1, 3, 32, 40))
    assert all(m.isfinite().all() for m in [*maps, deep])


def test_painted_as_a_network_of_torchvision_sees(
    trained: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), "squeezenet1_1-b8a52dc0.pth")
    command = ["sample", str(trained["gan"]), "--what", "style", "--style", "noise.png", "--content", "noise.png"]
    command += ["--steps", "4", "--output", "painted.png", "--vgg", "squeezenet1_1-b8a52dc0.pth"]
    assert main(command) == 0
    before, after = (float(part) for part in capsys.readouterr().out.split()[4:8:2])
    assert after < before
    with Image.open("painted.png") as picture:
        assert picture.mode == "RGB" and picture.size == (40, 40)


@pytest.fixture(scope="module")
def file_of_weights() -> Callable[[bool], bytes]:
    def made(zipped: bool) -> bytes:
        content = io.BytesIO()
        torch.save(weights_of("squeezenet1_1"), content, _use_new_zipfile_serialization=zipped)
        return content.getvalue()

    return made


@pytest.mark.parametrize("zipped", [True, False])
def test_half_a_file_is_refused(zipped: bool, file_of_weights: Callable[[bool], bytes], tmp_path: Path) -> None:
    whole, path = file_of_weights(zipped), tmp_path / "squeezenet1_1.pth"

    @settings(deadline=None, max_examples=30)
    @given(st.floats(0, 0.95))
    def cut(share: float) -> None:
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(
            UserError, match=r"squeezenet1_1\.pth: no weights of torchvision's squeezenet1_1 \(.*\)$"
        ):
            eyes_of_torchvision(path)

    cut()


class Runs:
    """What a pickle can do to who opens it."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        import os

        return os.system, ("touch opened",)


@pytest.mark.parametrize(
    "content",
    [{}, [1.0], {"features.0.weight": torch.zeros(2)}, {1: 2}, torch.zeros(3), Runs(), weights_of("resnet34")],
    ids=["empty", "list", "part", "numbers", "tensor", "code", "another"],
)
def test_another_file_is_refused_and_nothing_in_it_runs(
    content: object, trained: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(content, "resnet18.pth")
    command = ["sample", str(trained["gan"]), "--what", "style", "--style", "noise.png", "--vgg", "resnet18.pth"]
    assert main(command) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if not line.endswith("...")]
    assert len(errors) == 1 and "--vgg resnet18.pth: no weights of torchvision's resnet18 (" in errors[0]
    assert not Path("opened").exists()
