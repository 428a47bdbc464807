"""What `aigc sample --what` shows is what it says."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import train_here
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_generators import spec_of
from torch import Tensor, nn
from torch.testing import assert_close

from aigc_lab.cli import main
from aigc_lab.config.compose import Composer
from aigc_lab.config.targets import build
from aigc_lab.data.images import Digits
from aigc_lab.data.samples import Images, Samples
from aigc_lab.errors import UserError
from aigc_lab.flow import Flow
from aigc_lab.generators import Implicit, LatentVariable, NeuralGenerator, load
from aigc_lab.looking import LOOKS
from aigc_lab.looking.latents import LAWS, Explains, latent_model, lerp, pictures, search, slerp
from aigc_lab.looking.restoring import fill
from aigc_lab.looking.scene import Scene, able, look
from aigc_lab.nets.codes import CodePrior, Strided
from aigc_lab.nets.conditional import ConcatenatedLatent
from aigc_lab.nets.mlp import MLP
from aigc_lab.nets.unet import UNet
from aigc_lab.objectives.flow_matching import ClassifierFree
from aigc_lab.objectives.likelihoods import Bernoulli, DiscretisedLogistic
from aigc_lab.objectives.ode import Midpoint
from aigc_lab.quantised import Quantised

STEP = 8 * 6 + 2
"""Pixels from one 8x8 image of a sheet to the next."""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def digits() -> Digits:
    return build(Composer().train(["data=digits", "model=gan"]).data)


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of an MLP VAE on a folder of pictures."""
    root = tmp_path_factory.mktemp("unlabelled")
    (root / "pictures").mkdir()
    for i in range(12):
        Image.new("L", (8, 8), 20 * i).save(root / f"pictures/{i}.png")
    of_pictures = ["data=image_folder", f"data.path={root}/pictures", "data.size=8", "data.channels=1"]
    return train_here(root / "runs", "vae", [*of_pictures, "data.batch_size=4", "trainer.max_steps=2"])


def scene_of(generator: NeuralGenerator, n: int = 4) -> Scene:
    return Scene(generator, Composer().train(["data=digits", "model=gan"]).data, Path("cache"), n, 0)


def cells(picture: Image.Image) -> np.ndarray:
    """The grey 8x8 images of a sheet, [rows, columns, 8, 8]."""
    x = np.array(picture.convert("L"))[2:, 2:]
    rows, columns = x.shape[0] // STEP, x.shape[1] // STEP
    return x.reshape(rows, STEP, columns, STEP).transpose(0, 2, 1, 3)[:, :, :48:6, :48:6]


def shades(images: Samples) -> np.ndarray:
    """Grey 8x8 images as `cells` has them, [n, 8, 8]."""
    assert isinstance(images, Images)
    return images.to_uint8()[:, 0].numpy()


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 50), st.floats(0, 1), st.integers(0, 99))
def test_slerp_stays_on_the_sphere_and_turns_evenly(d: int, t: float, seed: int) -> None:
    a, b = nn.functional.normalize(torch.randn(2, 3, d, generator=rng(seed), dtype=torch.double), dim=-1)
    between = slerp(a, b, t)
    assert_close(between.norm(dim=1), torch.ones(3, dtype=torch.double))
    turned = torch.cosine_similarity(a, between).clamp(-1, 1).arccos()
    assert_close(turned, t * torch.cosine_similarity(a, b).arccos(), rtol=0, atol=1e-6)
    assert_close(slerp(a, b, 0.0), a)
    assert_close(slerp(a, b, 1.0), b)
    assert_close(slerp(a, 2 * a, t), lerp(a, 2 * a, t))  # in one direction there is no angle


def test_each_family_shows_what_it_can(trained: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Rows and columns of every picture for n = 3; for the others, one line with those that there are."""
    always = {"grid": (1, 3), "neighbours": (2, 3)}
    of_latents = {"interpolate": (3, 9), "truncate": (6, 3), "arithmetic": (3, 4), "reconstruct": (2, 3)}
    expected = {
        "gan": always | of_latents | {"inpaint": (3, 3)},
        "vae": always | of_latents | {"inpaint": (3, 3)},
        "flow": always | {what: of_latents[what] for what in ("interpolate", "truncate", "reconstruct")},
        "pixels": always | {"inpaint": (5, 3)},
        "text": {},
    }
    for family, looks in expected.items():
        run = trained[family]
        for what, (rows, columns) in looks.items():
            capsys.readouterr()
            assert main(["sample", str(run), "--what", what, "-n", "3"]) == 0
            caption, line = capsys.readouterr().out.splitlines()
            assert caption and line == f"samples: {run / 'samples' / what}-seed0-n3.png"
            with Image.open(run / f"samples/{what}-seed0-n3.png") as picture:
                # neighbours have a third row where an evaluation has left a classifier in the cache
                sizes = [(columns * STEP + 2, n * STEP + 2) for n in (rows, rows + (what == "neighbours"))]
                assert picture.size in sizes, (family, what)
        for what in set(LOOKS) - set(looks) - {"style"}:
            assert main(["sample", str(run), "--what", what]) == 2
            error = capsys.readouterr().err.splitlines()[-1]
            assert error.startswith(f"aigc: --what {what}: ") and all(able in error for able in looks)


def test_a_walk_can_be_an_animation(trained: dict[str, Path]) -> None:
    assert main(["sample", str(trained["gan"]), "--what", "interpolate", "-n", "2", "--output", "walk.gif"]) == 0
    with Image.open("walk.gif") as animation:
        assert animation.format == "GIF" and animation.size == (2 * STEP + 2, STEP + 2)
        assert getattr(animation, "n_frames", 1) > 24, "there and back"


@pytest.mark.parametrize(
    "options, says",
    [
        ("--what grid --output x.gif", "--what grid does not move; write a .png, or look at interpolate"),
        ("--output x.gif", "--what samples does not move"),
        ("--what grid --classes 1", "--classes: is for --what arithmetic and classes, not for --what grid"),
        ("--classes 1", "--classes: is for --what arithmetic and classes, not for --what samples"),
        ("--what inpaint --prompt x", "--prompt: is for texts, not for --what inpaint"),
        ("--what inpaint --beams 3", "--beams: is for texts"),
        ("--what arithmetic --classes 1,x", "'1,x': give numbers with commas between them"),
        ("--what arithmetic --classes 1,2", "--classes 1,2: give three of the classes 0 to 9"),
        ("--what arithmetic --classes 1,2,10", "--classes 1,2,10: give three of the classes 0 to 9"),
        ("--what nothing", "'nothing' is not one of 'samples', 'grid'"),
        ("--what style", "give the picture whose style it is with --style FILE"),
        ("--what style --style none.png", "--style none.png: no such file"),
        ("--what style --style text.txt", "--style text.txt: not a picture that can be read"),
        ("--what style --style dot.png", "--style dot.png: a picture of 9x9; sides of at least 32 are needed"),
        ("--what grid --output x.jpg", "--output x.jpg: a picture is written as .png"),
        ("--what style --style wide.png --size 64", "--style wide.png: a picture of 64x1 at --size 64; sides of"),
        (
            "--what style --style black.png --content wide.png",
            "--content wide.png: a picture of 256x4 at --size 256",
        ),
        ("--what style --style black.png -n 2 --size 32", "-n 2: a picture of 32x16 at --size 32; sides of"),
        ("--what style --style black.png --style-weight nan", "nan is no finite number"),
        ("--what style --style black.png --style-weight inf", "inf is no finite number"),
        ("--what style --style black.png --style-weight -1", "--style-weight"),
        ("--what style --style black.png --vgg text.txt", "--vgg text.txt: no weights of torchvision's vgg19 ("),
    ],
)
def test_what_does_not_fit_is_one_line(
    options: str, says: str, trained: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("text.txt").write_text("no picture")
    Image.new("L", (9, 9)).save("dot.png")
    Image.new("L", (40, 40)).save("black.png")
    Image.new("L", (2000, 32)).save("wide.png")
    assert main(["sample", str(trained["vae"]), *options.split()]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if not line.endswith("...")]
    assert len(errors) == 1 and says in errors[0]
    assert not list(Path().glob("x.*"))


@pytest.mark.parametrize("family", ["gan", "flow"])
def test_walks_begin_and_end_with_samples(family: str, trained: dict[str, Path]) -> None:
    generator = load(trained[family])
    samples = shades(generator.sample(6, rng=rng()))
    walked = cells(look("interpolate", scene_of(generator, n=3)).picture)
    assert (walked[:, 0] == samples[:3]).all() and (walked[:, -1] == samples[3:]).all()
    truncated = cells(look("truncate", scene_of(generator, n=6)).picture)
    assert (truncated[0] == samples).all(), "psi = 1 changes nothing"
    assert (truncated[-1] == truncated[-1, 0]).all(), "psi = 0 is one picture"
    assert (cells(look("grid", scene_of(generator, n=6)).picture)[0] == samples).all()


def test_arithmetic_is_a_minus_b_plus_c(trained: dict[str, Path]) -> None:
    scene = scene_of(load(trained["gan"]), n=3)
    a, b, c = scene.latents.draw(9, scene.rng()).chunk(3)
    shown = cells(look("arithmetic", scene).picture)
    for column, z in enumerate((a, b, c, a - b + c)):
        assert (shown[:, column] == shades(pictures(scene.latents, z))).all()


@pytest.mark.parametrize("latent", ["normal", "uniform"])
def test_a_search_finds_the_images_that_a_generator_made(latent: str, digits: Digits) -> None:
    """Of one half it guesses the other; and it finds no latent that cannot be drawn."""
    torch.manual_seed(0)
    generator = Implicit(spec=digits.spec, generator=MLP(hidden=[16]), latent_dim=2, latent=latent).eval()  # type: ignore[arg-type]
    model, made = latent_model(generator), generator.sample(8, rng=rng(3))
    assert isinstance(model, Explains) and isinstance(made, Images)
    visible = (torch.arange(8) < 4)[None, None, :, None].expand(1, 1, 8, 8)
    z = search(model, made.pixels, visible, rng=rng())
    assert_close(z, LAWS[latent].nearest(z))
    with torch.no_grad():
        hidden = (model.picture(z) + 1) * 8 * ~visible
    real = made.pixels * ~visible
    assert (hidden - real).abs().mean() < (hidden - real.roll(1, 0)).abs().mean() / 4


def test_a_trained_vae_reconstructs_the_image_and_not_another(train: Callable[..., Path]) -> None:
    generator = load(train("vae", "trainer.max_steps=400", "data.batch_size=64", "model.lr=1e-2"))
    real, again = cells(look("reconstruct", scene_of(generator, n=16)).picture).astype(float)
    error = np.abs(real - again).mean((1, 2))
    assert error.mean() < 0.7 * np.abs(real - np.roll(again, 1, 0)).mean()
    hole = cells(look("inpaint", scene_of(generator, n=16)).picture).astype(float)[..., 2:6, 2:6]
    assert np.abs(hole[0] - hole[2]).mean() < 0.7 * np.abs(hole[0] - np.roll(hole[2], 1, 0)).mean()
    a, b, c, d = cells(look("arithmetic", scene_of(generator, n=8), classes=(0, 1, 1)).picture).mean((0,))[:4]
    assert np.abs(d - a).mean() < np.abs(d - b).mean(), "0 - 1 + 1 is a 0"
    assert np.abs(b - c).mean() < np.abs(b - a).mean()


@pytest.mark.parametrize("family", ["vae", "pixels"])
def test_filling_a_hole_leaves_the_rest(family: str, trained: dict[str, Path]) -> None:
    real, holed, *filled = cells(look("inpaint", scene_of(load(trained[family]), n=5)).picture)
    visible = (real == holed).all(0)
    assert 16 <= visible.sum() <= 56
    for image in filled:
        assert (image[:, visible] == real[:, visible]).all() and (image != holed).any((1, 2)).all()
    if family == "pixels":
        assert visible[:4].all() and not visible[4:].all()
        assert len(filled) == 3 and (filled[0] != filled[1]).any(), "drawn, not searched"


class Copycat(NeuralGenerator):
    """The first training images; of a class, its own."""

    def __init__(self, digits: Digits, *, knows_classes: bool) -> None:
        super().__init__(digits.spec)
        self.digits, self.knows_classes, self.weight = digits, knows_classes, nn.Parameter(torch.zeros(1))

    @property
    def takes_classes(self) -> bool:
        return self.knows_classes

    def _draw(self, n: int, rng: torch.Generator) -> Images:
        return self.digits.real("train")[:n]

    def _draw_classes(self, classes: Tensor, rng: torch.Generator) -> Images:
        labels = self.digits.labels("train")
        return self.digits.real("train")[torch.stack([(labels == c).nonzero()[0, 0] for c in classes])]

    def reconstruct(self, batch: Images) -> Images:
        return Images(batch.pixels.flip(3), batch.levels)

    def log_likelihood(self, batch: Samples, *, rng: torch.Generator, importance_samples: int = 1) -> None: ...


def test_copies_stand_above_themselves(digits: Digits) -> None:
    scene = scene_of(Copycat(digits, knows_classes=False), n=20)
    view = look("neighbours", scene)
    above, below = (
        cells(view.picture)[[0, 2]].reshape(2, -1, 8, 8)[:, :16],
        cells(view.picture)[[1, 3]].reshape(2, -1, 8, 8)[:, :16],
    )
    assert (above == below).all() and "20 of 20 are copies" in view.caption
    assert (cells(view.picture)[2:, 4:] == 255).all(), "the second block has four columns"


def test_a_generator_may_reconstruct_in_its_own_way(digits: Digits) -> None:
    real, again = cells(look("reconstruct", scene_of(Copycat(digits, knows_classes=False), n=5)).picture)
    assert (again == real[..., ::-1]).all()


def test_a_row_for_each_class(digits: Digits) -> None:
    scene = scene_of(Copycat(digits, knows_classes=True), n=3)
    assert cells(look("classes", scene).picture).shape[:2] == (10, 3)
    rows = cells(look("classes", scene, classes=(7, 2)).picture)
    real, labels = shades(digits.real("train")), digits.labels("train")
    for row, label in zip(rows, (7, 2), strict=True):
        assert (row == real[(labels == label).nonzero()[0, 0]]).all()


class GreyOfClass(nn.Module):
    """Latents beside one-hot classes -> an image as bright as its class is high, whatever the latents."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.cat([torch.zeros(2), torch.linspace(-2, 2, 10)]))

    def forward(self, given: Tensor) -> Tensor:
        return (given @ self.weight)[:, None, None, None].expand(-1, 1, 8, 8)


def test_latents_of_a_generator_that_takes_classes(digits: Digits) -> None:
    """Walks have a class a row; a held-out image is looked for among those of its own class."""
    gan = Implicit(
        spec=digits.spec, generator=MLP(hidden=[4]), latent_dim=2, generator_condition=ConcatenatedLatent()
    )
    gan.network = GreyOfClass()
    shade = shades(gan.sample_classes(torch.arange(10), rng=rng()))[:, 0, 0]
    assert (np.diff(shade.astype(int)) > 0).all()
    scene = scene_of(gan, n=12)
    walks = cells(look("interpolate", scene).picture)
    assert (walks == np.resize(shade, 12)[:, None, None, None]).all()
    images, classes = scene.held_out()
    own = {
        images.tobytes(): int(label)
        for images, label in zip(shades(digits.real("held_out")), digits.labels("held_out"), strict=True)
    }
    assert classes is not None and classes.tolist() == [own[image.tobytes()] for image in shades(images)]
    real, again = cells(look("reconstruct", scene).picture)
    assert (real == shades(images)).all() and (again == shade[classes.numpy()][:, None, None]).all()
    with pytest.raises(UserError, match="its latents do not know it; leave it out"):
        look("arithmetic", scene, classes=(1, 2, 3))


def test_latents_of_a_conditional_vae(digits: Digits) -> None:
    network = MLP(hidden=[8])
    vae = LatentVariable(
        spec=digits.spec,
        encoder=network,
        decoder=network,
        likelihood=DiscretisedLogistic(),
        latent_dim=2,
        emit="sample",
        conditional=True,
    )
    for what, rows in {"interpolate": 4, "truncate": 6, "arithmetic": 4, "reconstruct": 2, "inpaint": 3}.items():
        assert len(cells(look(what, scene_of(vae)).picture)) == rows
    images, classes = scene_of(vae).held_out()
    (_, again) = cells(look("reconstruct", scene_of(vae)).picture)
    mean, _ = vae.encode(images.pixels, classes)
    middle = vae.likelihood.median(vae.decode(mean, classes), digits.spec.vocab_size)
    assert (again == shades(Images(middle.to(torch.uint8), digits.spec.vocab_size))).all()


def test_latents_of_a_flow(digits: Digits) -> None:
    """Its noise, on the sphere: pictures are samples, guided where classes are, and images lead back to theirs."""
    torch.manual_seed(0)
    flow = Flow(
        spec=digits.spec,
        velocity=UNet(widths=[4, 8], patch=1, n_blocks=1),
        solver=Midpoint(),
        n_steps=10,
        guidance=ClassifierFree(dropout=0.1, weight=3.0),
    )
    for parameter in flow.network.parameters():
        nn.init.normal_(parameter, std=0.1)
    scene, classes = scene_of(flow, n=4), torch.arange(4)
    walks = cells(look("interpolate", scene).picture)
    made = shades(flow.sample_classes(classes.repeat(2), rng=rng()))
    assert (walks[:, 0] == made[:4]).all() and (walks[:, -1] == made[4:]).all()
    assert (made != shades(flow.sample_classes(classes.repeat(2) + 4, rng=rng()))).any(), "classes steer"
    assert scene.latents.law.walk is slerp
    real, again = cells(look("reconstruct", scene).picture).astype(int)
    assert np.abs(real - again).max() <= 16, "one of 17 levels"
    with pytest.raises(UserError, match=r"no latents that add up here; for this run: samples, .*classes"):
        look("arithmetic", scene)


def test_the_lower_codes_are_drawn_given_the_upper() -> None:
    """As often as the prior says, by its own logits; a codebook without a law cannot."""
    torch.manual_seed(0)
    generator = Quantised(
        spec=spec_of("image", (1, 4, 2), 2),
        codes=Strided(n_codes=3, code_dim=2, width=4, halvings=1, blocks=0),
        likelihood=Bernoulli(),
        emit="sample",
        prior=CodePrior(width=8, n_layers=1, n_heads=2, dropout=0.0),
    ).eval()
    for parameter in generator.parameters():
        nn.init.normal_(parameter)
    nn.init.normal_(generator.codebook)
    n, image = 2000, torch.tensor([1, 0, 0, 1, 1, 1, 0, 0], dtype=torch.uint8).view(1, 1, 4, 2)
    with torch.inference_mode():
        upper = generator.quantise(generator.features(image))[:, :1]
        grids = torch.cat([upper.expand(3, 1), torch.arange(3)[:, None]], 1)
        of_codes = generator.likelihood.median(generator.maps(generator.codebook[grids]), 2).flatten(1)
        assert generator.prior is not None
        expected = generator.prior.logits(grids)[0, 1].softmax(-1)
    visible, filled, _ = fill(generator, Images(image.expand(n, -1, -1, -1), 2), None, rng())
    assert visible.flatten().tolist() == [True] * 4 + [False] * 4 and len(filled) == 3
    drawn = torch.cat([images.pixels for images in filled]).flatten(1)
    for picture in of_codes.unique(dim=0):
        share = expected[(of_codes == picture).all(1)].sum()
        assert abs((drawn == picture).all(1).double().mean() - share) < 4 * 0.5 / (3 * n) ** 0.5
    assert len(of_codes.unique(dim=0)) > 1 and "inpaint" in able(generator)
    generator.prior = None
    assert "inpaint" not in able(generator) and "reconstruct" in able(generator)


def test_unlabelled_images(unlabelled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sums of latents are of drawn ones; a network without convolutions sees nothing by itself."""
    generator = load(unlabelled)
    assert able(generator).endswith("neighbours, style with --vgg")
    assert main(["sample", str(unlabelled), "--what", "arithmetic", "-n", "3"]) == 0
    assert "A - B + C of latents as they are drawn" in capsys.readouterr().out
    for options, says in {
        "arithmetic --classes 0,1,2": "--classes 0,1,2: the data of this run has no classes; leave it out",
        "style --style none.png": "--what style: LatentVariable has no network to see with here; for this run: ",
    }.items():
        assert main(["sample", str(unlabelled), "--what", *options.split()]) == 2
        assert says in capsys.readouterr().err.splitlines()[-1]
