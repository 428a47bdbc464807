"""Optimizers and schedules as configurations: what is known before there are parameters."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from aigc_lab.types import Fraction, NonNegativeFloat, NonNegativeInt, PositiveInt


class OptimizerConfig(Protocol):
    """Makes optimizers, and says how their learning rate moves."""

    def __call__(self, parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer: ...

    def lr_factor(self, step: int, max_steps: int) -> float:
        """What the learning rate is multiplied with at a step, counted from 0."""
        ...

    def settings(self, step: int, max_steps: int) -> Mapping[str, float]:
        """What else moves: the other values of a parameter group at a step."""
        ...


class Schedule(Protocol):
    """A factor of the learning rate at `step` of `max_steps`, counted from 0."""

    def __call__(self, step: int, max_steps: int) -> float: ...


@dataclass(frozen=True, kw_only=True)
class WarmupCosine:
    """A linear rise over `warmup` steps, then half a cosine down to `final` of the peak at the last step.

    `final` = 1 keeps the peak.
    """

    warmup: NonNegativeInt
    final: NonNegativeFloat

    def __call__(self, step: int, max_steps: int) -> float:
        """The factor at `step` of `max_steps`."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, max_steps - 1 - self.warmup)
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * min(1.0, progress))) / 2


@dataclass(frozen=True, kw_only=True)
class ExponentialDecay:
    """(1 + rate)^-step, and never below `floor`; a rate of 0 keeps the learning rate."""

    rate: NonNegativeFloat
    floor: NonNegativeFloat

    def __call__(self, step: int, max_steps: int) -> float:
        """The factor at `step`."""
        return max(self.floor, (1 + self.rate) ** -step)


@dataclass(frozen=True, kw_only=True)
class LinearRamp:
    """From `start` to `end` over `steps`, then `end`."""

    start: Fraction
    end: Fraction
    steps: PositiveInt

    def __call__(self, step: int) -> float:
        """The value at `step`."""
        return self.start + (self.end - self.start) * min(1.0, step / self.steps)


@dataclass(frozen=True, kw_only=True)
class Adam:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019), on matrices only, not on gains and biases."""

    betas: tuple[Fraction, Fraction]
    eps: NonNegativeFloat
    weight_decay: NonNegativeFloat
    schedule: Schedule

    def __call__(self, parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        """An optimizer of the given parameters."""
        matrices: list[Tensor] = []
        others: list[Tensor] = []
        for parameter in parameters:
            (matrices if parameter.ndim >= 2 else others).append(parameter)
        groups: list[dict[str, float | list[Tensor]]] = [
            {"params": matrices, "weight_decay": self.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        return torch.optim.AdamW(groups, lr=lr, betas=(self.betas[0], self.betas[1]), eps=self.eps, fused=True)

    def lr_factor(self, step: int, max_steps: int) -> float:
        return self.schedule(step, max_steps)

    def settings(self, step: int, max_steps: int) -> Mapping[str, float]:
        return {}


@dataclass(frozen=True, kw_only=True)
class SGD:
    """Stochastic gradient descent with momentum: v <- momentum·v + gradient, θ <- θ - lr·v."""

    momentum: LinearRamp
    schedule: Schedule

    def __call__(self, parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        """An optimizer of the given parameters."""
        return torch.optim.SGD(parameters, lr=lr, momentum=self.momentum(0), fused=True)

    def lr_factor(self, step: int, max_steps: int) -> float:
        return self.schedule(step, max_steps)

    def settings(self, step: int, max_steps: int) -> Mapping[str, float]:
        return {"momentum": self.momentum(step)}
