"""What reaches whom in a step of a GAN: items, classes, augmented images, gradients."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from aigc_lab import training
from aigc_lab.config.compose import Composer
from aigc_lab.data.samples import LabelledImages
from aigc_lab.errors import UserError
from aigc_lab.modules.gan import GAN
from aigc_lab.nets.conditional import Verdict, one_hot

BOTH = pytest.mark.parametrize("module", ["GAN", "SimultaneousGAN"])
CLASSES = ["model/generator_condition=concatenation", "model/discriminator_condition=auxiliary"]


@dataclass
class Seen:
    """What G was asked for and gave, and what D was shown, in order."""

    asked: list[tuple[Tensor, ...]] = field(default_factory=list)
    generated: list[Tensor] = field(default_factory=list)
    judged: list[tuple[Tensor, ...]] = field(default_factory=list)


@dataclass
class SpyPenalty:
    """Costs nothing, and keeps what it is given."""

    of_slopes: bool
    seen: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def __call__(self, discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, _: float) -> Tensor:
        self.seen.append((real, fake))
        return torch.zeros(())


class Indifferent:
    """A game in which nothing is won: what moves the players comes from elsewhere."""

    compares, middle, scaled = False, None, True

    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return 0 * (real_logits.sum() + fake_logits.sum())

    def generator_loss(self, fake_logits: Tensor, real_logits: Tensor) -> Tensor:
        return 0 * fake_logits.sum()


def build(*overrides: str, module: str = "GAN", world_size: int = 1) -> tuple[GAN, Seen]:
    """A module on digits without a trainer, whose optimizers leave weights and gradients as they are."""
    target = f"model._target_=aigc_lab.modules.gan.{module}"
    base = ["data=digits", "model=gan", target, "model/penalties=none", "data.batch_size=8", "trainer.max_steps=4"]
    _, gan = training._build_module(Composer().train([*base, *overrides]))
    assert isinstance(gan, GAN)
    optimizers = gan.configure_optimizers()
    for optimizer in optimizers:
        optimizer.step = lambda: None  # type: ignore
    gan.each_optimizer = lambda: optimizers  # type: ignore
    gan.manual_backward = lambda loss: loss.backward()  # type: ignore
    alone = SimpleNamespace(reduce=lambda tensor, reduce_op: tensor)
    gan._trainer = SimpleNamespace(strategy=alone, world_size=world_size, global_rank=0)  # type: ignore
    seen = Seen()

    def generates(_: nn.Module, given: tuple[Tensor, ...], images: Tensor) -> None:
        seen.asked.append(given)
        seen.generated.append(images.detach())

    def judges(_: nn.Module, given: tuple[Tensor, ...], verdict: Any) -> None:
        seen.judged.append(given)

    gan.generator.register_forward_hook(generates)
    gan.discriminator.register_forward_hook(judges)
    return gan, seen


def step(gan: GAN) -> LabelledImages:
    """One step on images and labels at random, which are returned."""
    gan.on_train_batch_start(torch.zeros(0), 0)
    batch = LabelledImages(torch.randint(0, 17, (8, 1, 8, 8), dtype=torch.uint8), torch.arange(8))
    gan.training_step(batch if gan.wants_labels else batch.pixels, 0)
    return batch


@BOTH
@pytest.mark.parametrize("pack", [1, 2])
def test_penalties_are_of_the_real_and_of_the_generated_items(module: str, pack: int) -> None:
    """Those on slopes of all that D takes at once, the others of single items."""
    gan, seen = build(f"model.pack={pack}", module=module)
    slopes, items = SpyPenalty(of_slopes=True), SpyPenalty(of_slopes=False)
    gan.penalties = {"slopes": slopes, "items": items}
    real = gan.generator.real(step(gan).pixels)
    for penalty, shape in ((slopes, (8 // pack, pack, 8, 8)), (items, (8, 1, 8, 8))):
        [(on_real, on_fake)] = penalty.seen
        assert torch.equal(on_real, real.view(shape)) and torch.equal(on_fake, seen.generated[0].view(shape))


@BOTH
def test_both_players_are_told_the_classes_of_the_real_images(module: str) -> None:
    gan, seen = build(*CLASSES, module=module)
    classes = one_hot(step(gan).labels, 10)
    told = [given[1] for given in (*seen.asked, *seen.judged)]
    assert len(told) == {"GAN": 5, "SimultaneousGAN": 3}[module]
    assert all(torch.equal(one, classes) for one in told)


@BOTH
def test_both_players_pay_for_classes_that_d_misreads(module: str) -> None:
    """D on real and on generated images, G on its own (Odena et al. 2017); the game itself moves nobody here."""
    gan, seen = build(*CLASSES, module=module)
    gan.objective = Indifferent()  # type: ignore
    labels = step(gan).labels
    found = [p.grad.clone() for p in gan.discriminator.parameters() if p.grad is not None]
    shown = [given[0].detach() for given in seen.judged[:2]]
    reads = [F.cross_entropy(gan.discriminator.network(images)[:, 1:], labels) for images in shown]
    wanted = torch.autograd.grad(sum(reads), list(gan.discriminator.parameters()))
    torch.testing.assert_close(found, list(wanted))
    z, classes = seen.asked[-1]
    reads_samples = F.cross_entropy(gan.discriminator.network(gan.generator(z, classes))[:, 1:], labels)
    of_g = torch.autograd.grad(reads_samples, list(gan.generator.parameters()))
    torch.testing.assert_close([p.grad for p in gan.generator.parameters()], list(of_g), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("game", "passes"), [("non_saturating", 3), ("relativistic", 4)])
def test_d_sees_all_images_through_the_augmentation(game: str, passes: int) -> None:
    gan, seen = build(f"model/objective={game}")
    changed: list[Tensor] = []

    def augment(images: Tensor) -> Tensor:
        changed.append(images.flip(-1) + 1)
        return changed[-1]

    gan.augment = augment
    step(gan)
    assert len(changed) == len(seen.judged) == passes
    assert all(torch.equal(given[0], images) for given, images in zip(seen.judged, changed, strict=True))


def test_each_of_k_discriminator_steps_sees_a_part_of_the_batch() -> None:
    gan, seen = build("model.discriminator_steps=2")
    real = gan.generator.real(step(gan).pixels)
    assert [len(given[0]) for given in seen.judged] == [4] * 5, "real and generated, twice, and for G"
    assert torch.equal(torch.cat([seen.judged[0][0], seen.judged[2][0]]), real)
    assert not torch.equal(seen.generated[0], seen.generated[1]), "each on noise of its own"


def test_an_adaptive_augmentation_counts_the_items_of_all_processes() -> None:
    gan, _ = build("model/augment=adaptive", world_size=2)
    counted: list[int] = []
    gan.augment.steer = lambda sign_of_real, n_items: counted.append(n_items)  # type: ignore
    step(gan)
    assert counted == [16]


def test_the_best_samples_stay_beside_the_real_items_that_they_are_compared_with() -> None:
    gan, _ = build("model/objective=relativistic", "model.top_k=0.5")
    gan.step = gan.plan.max_steps
    fake, real = torch.tensor([[1.0], [4.0], [2.0], [3.0]]), torch.tensor([[0.0], [1.0], [7.0], [-2.0]])
    loss = gan._generator_loss(Verdict(fake, torch.zeros(())), real)
    torch.testing.assert_close(loss, F.softplus(-torch.tensor([4.0 - 1.0, 3.0 + 2.0])).mean())


def test_logits_are_float32_where_everything_else_is_bfloat16() -> None:
    gan, _ = build()
    minibatch = gan.minibatch(torch.zeros(8, 1, 8, 8, dtype=torch.uint8))
    with torch.autocast("cpu", torch.bfloat16):
        assert gan.discriminator(minibatch.real).dtype == torch.bfloat16
        assert gan.judge(minibatch.real, minibatch).logits.dtype == torch.float32


def test_a_slope_at_an_item_is_not_asked_of_a_discriminator_that_norms_batches(tmp_path: Path) -> None:
    for i in range(8):
        Image.new("L", (16, 16), 30 * i).save(tmp_path / f"{i}.png")
    folder = ["data=image_folder", f"data.path={tmp_path}", "data.size=16", "data.channels=1"]
    dcgan = ["model/discriminator=dcgan", "model.discriminator.encoder_norm=true"]
    build(*folder, *dcgan)
    with pytest.raises(UserError, match=r"penalties\.r1: is of the slope at each item.*encoder_norm=false"):
        build(*folder, *dcgan, "model/penalties=r1")
