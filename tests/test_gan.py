"""The GAN step: what its game and its penalties are given."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from aigc_lab.modules.gan import GAN
from aigc_lab.objectives.games import Relativistic
from aigc_lab.objectives.penalties import R1

Train = Callable[..., Path]


def test_the_generators_loss_sees_real_and_fake_logits_of_one_discriminator(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that the generator plays against: after its own update. It is not moved by the generator's step."""
    given: list[Tensor] = []
    generator_loss, training_step = Relativistic.generator_loss, GAN.training_step

    def spy(self: Relativistic, fake_logits: Tensor, real_logits: Tensor) -> Tensor:
        given.append(real_logits)
        return generator_loss(self, fake_logits, real_logits)

    def step(self: GAN, batch: Tensor, batch_idx: int) -> None:
        before = self.discriminator(self.generator.real(batch)).detach()
        training_step(self, batch, batch_idx)
        after = self.discriminator(self.generator.real(batch)).detach()
        torch.testing.assert_close(given[-1], after)
        assert not torch.allclose(before, after)
        assert not given[-1].requires_grad

    monkeypatch.setattr(Relativistic, "generator_loss", spy)
    monkeypatch.setattr(GAN, "training_step", step)
    train("gan", "model/objective=relativistic", "trainer.max_steps=3")
    assert len(given) == 3


def test_penalties_are_told_which_share_of_training_is_over(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    penalty = R1.__call__

    def spy(self: R1, *args: Any) -> Tensor:
        seen.append(args[-1])
        return penalty(self, *args)

    monkeypatch.setattr(R1, "__call__", spy)
    train("gan", "trainer.max_steps=4")
    assert seen == [0.0, 0.25, 0.5, 0.75]
