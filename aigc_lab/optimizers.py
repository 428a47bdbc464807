"""Optimizers and schedules as configurations: what is known before there are parameters."""

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from aigc_lab.errors import UserError
from aigc_lab.types import Fraction, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Share


class OptimizerConfig(Protocol):
    """Makes optimizers, and says how their learning rate moves."""

    def __call__(
        self, parameters: Iterable[nn.Parameter], lr: float, *, matrices: Collection[nn.Parameter] = ()
    ) -> torch.optim.Optimizer:
        """Of the given parameters. `matrices` are those among them which map hidden channels to hidden channels:
        neither embeddings nor heads, for an optimizer that treats them in another way."""
        ...

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
class WarmupLinear:
    """A linear rise over `warmup` steps, the peak, and a linear fall to `final` of it over the last `decay` of all
    steps ("WSD": Hägele et al. 2024). `decay` = 1 falls from the warm-up on."""

    warmup: NonNegativeInt
    decay: Share
    final: NonNegativeFloat

    def __call__(self, step: int, max_steps: int) -> float:
        """The factor at `step` of `max_steps`."""
        rise = (step + 1) / self.warmup if step < self.warmup else 1.0
        begin = min(max_steps - 1, max(self.warmup, (1 - self.decay) * max_steps))
        fall = max(0.0, (step - begin) / max(1.0, max_steps - 1 - begin))
        return rise * (1 + (self.final - 1) * min(1.0, fall))


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

    def __call__(
        self, parameters: Iterable[nn.Parameter], lr: float, *, matrices: Collection[nn.Parameter] = ()
    ) -> torch.optim.Optimizer:
        """An optimizer of the given parameters."""
        groups = _by_decay(parameters, self.weight_decay)
        return torch.optim.AdamW(groups, lr=lr, betas=(self.betas[0], self.betas[1]), eps=self.eps, fused=True)

    def lr_factor(self, step: int, max_steps: int) -> float:
        return self.schedule(step, max_steps)

    def settings(self, step: int, max_steps: int) -> Mapping[str, float]:
        return {}


@dataclass(frozen=True, kw_only=True)
class Muon:
    """Muon (Jordan et al. 2024) for the matrices of hidden layers, `Adam` for everything else.

    Args:
        lr: of the matrices: a step has the size of lr · √max(1, rows / columns) in spectral norm.
        momentum: Nesterov's, of the gradient.
        n_iterations: of Newton and Schulz.
        adam: for embeddings, heads, gains and biases; its schedule holds for all.
    """

    lr: PositiveFloat
    momentum: Fraction
    n_iterations: PositiveInt
    weight_decay: NonNegativeFloat
    adam: Adam

    def __call__(
        self, parameters: Iterable[nn.Parameter], lr: float, *, matrices: Collection[nn.Parameter] = ()
    ) -> torch.optim.Optimizer:
        """An optimizer of the given parameters.

        Raises:
            UserError: none of them is a matrix of a hidden layer.
        """
        chosen = {id(matrix) for matrix in matrices}
        if not chosen:
            raise UserError("optimizer=muon: it is for the matrices of a Transformer; use optimizer=adam")
        others = _by_decay((p for p in parameters if id(p) not in chosen), self.adam.weight_decay)
        ours = {"momentum": self.momentum, "n_iterations": self.n_iterations, "weight_decay": self.weight_decay}
        betas = (self.adam.betas[0], self.adam.betas[1])
        return MuonAndAdam(
            [{"params": list(matrices), "lr": self.lr, **ours}, *others],
            lr=lr,
            betas=betas,
            eps=self.adam.eps,
            fused=True,
        )

    def lr_factor(self, step: int, max_steps: int) -> float:
        return self.adam.schedule(step, max_steps)

    def settings(self, step: int, max_steps: int) -> Mapping[str, float]:
        return {}


class MuonAndAdam(torch.optim.AdamW):
    """AdamW, but groups with a `momentum` take orthogonalised steps; matrices of one shape are treated at once."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of both; the matrices' gradients are spent."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if "momentum" in group:
                self._step_matrices(group)
        super().step()
        return loss

    def _step_matrices(self, group: dict[str, Any]) -> None:
        by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
        for matrix in group["params"]:
            if matrix.grad is not None:
                by_shape[matrix.shape].append(matrix)
                if not self.state[matrix]:
                    # AdamW looks for a `step` in every state that it loads
                    self.state[matrix].update(step=torch.zeros(()), velocity=torch.zeros_like(matrix))
                self.state[matrix]["step"] += 1
        for (rows, columns), matrices in by_shape.items():
            gradients = [matrix.grad for matrix in matrices if matrix.grad is not None]
            velocities = [self.state[matrix]["velocity"] for matrix in matrices]
            torch._foreach_lerp_(velocities, gradients, 1 - group["momentum"])
            nesterov = torch._foreach_lerp(gradients, velocities, group["momentum"])
            steps = orthogonalise(torch.stack(nesterov), n_iterations=group["n_iterations"])
            torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
            scale = group["lr"] * math.sqrt(max(1.0, rows / columns))
            torch._foreach_add_(matrices, list(steps), alpha=-scale)
            for matrix in matrices:
                matrix.grad = None  # AdamW passes it by


def orthogonalise(matrices: Tensor, *, n_iterations: int) -> Tensor:
    """About U Vᵀ of each matrix U S Vᵀ, [n, r, c], by Newton-Schulz iterations (Jordan et al. 2024).

    The quintic's slope at 0 is large rather than its limit 1: singular values end between 0.7 and 1.2.
    In bfloat16, which is exact enough for a direction.
    """
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x = (matrices if wide else matrices.mT).bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    a, b, c = 3.4445, -4.7750, 2.0315
    for _ in range(n_iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x if wide else x.mT).to(matrices.dtype)


def _by_decay(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Groups of AdamW: matrices decay, gains and biases do not."""
    matrices: list[Tensor] = []
    others: list[Tensor] = []
    for parameter in parameters:
        (matrices if parameter.ndim >= 2 else others).append(parameter)
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


@dataclass(frozen=True, kw_only=True)
class SGD:
    """Stochastic gradient descent with momentum: v <- momentum·v + gradient, θ <- θ - lr·v."""

    momentum: LinearRamp
    schedule: Schedule

    def __call__(
        self, parameters: Iterable[nn.Parameter], lr: float, *, matrices: Collection[nn.Parameter] = ()
    ) -> torch.optim.Optimizer:
        """An optimizer of the given parameters."""
        return torch.optim.SGD(parameters, lr=lr, momentum=self.momentum(0), fused=True)

    def lr_factor(self, step: int, max_steps: int) -> float:
        return self.schedule(step, max_steps)

    def settings(self, step: int, max_steps: int) -> Mapping[str, float]:
        return {"momentum": self.momentum(step)}
