"""A generator that moves noise along a learned velocity until it is data."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from aigc_lab.data.samples import Images, Points, Samples
from aigc_lab.data.spec import DataSpec
from aigc_lab.generators import LogLikelihood, NeuralGenerator, evaluating, require
from aigc_lab.nets.velocity import VelocityArchitecture
from aigc_lab.objectives.flow_matching import ClassifierFree
from aigc_lab.objectives.likelihoods import to_levels, to_unit
from aigc_lab.objectives.ode import Solver, integrate
from aigc_lab.objectives.variational import gaussian_log_density
from aigc_lab.types import PositiveInt

POINTS_AT_ONCE = 1 << 12
"""In a likelihood."""

FINER = 10
"""Steps of a likelihood for each of a sample's: its error is not random, and makes sharp laws look better."""


class Flow(NeuralGenerator):
    """x_1 of dx/dt = v(x, t) from x_0 ~ N(0, I) at t = 0 (Chen et al. 2018; Lipman et al. 2023).

    Args:
        velocity: v; images are seen in [-1, 1], points as they are.
        solver, n_steps: of the equation, in equal steps from 0 to 1.
        guidance: how classes steer it; None: they do not, and none can be asked for.
    """

    def __init__(
        self,
        *,
        spec: DataSpec,
        velocity: VelocityArchitecture,
        solver: Solver,
        n_steps: PositiveInt,
        guidance: ClassifierFree | None = None,
    ) -> None:
        super().__init__(spec)
        require(spec, "image", "points")
        self.solver, self.n_steps, self.guidance = solver, n_steps, guidance
        self.network = velocity.velocity(spec.shape, spec.n_classes if guidance else 0)

    def guide(self, weight: float) -> None:
        """Sample with another weight of the guidance than was configured.

        Raises:
            ValueError: it has learnt no guidance, or not for that weight.
        """
        if self.guidance is None:
            raise ValueError("it was trained without model/guidance=classifier_free")
        self.guidance = replace(self.guidance, weight=weight)

    def forward(self, x: Tensor, t: Tensor, classes: Tensor | None = None) -> Tensor:
        """v(x, t), of the shape of x, at times [B]; given classes [B], or any: None, or class n_classes."""
        return self.network(x, t, classes)

    def real(self, batch: Tensor) -> Tensor:
        """Training items as numbers that the flow leads to."""
        return to_unit(batch, self.spec.vocab_size) if self.modality == "image" else batch

    @property
    def takes_classes(self) -> bool:
        """Whether a class can be asked for."""
        return self.guidance is not None

    def _draw_classes(self, classes: Tensor, rng: torch.Generator) -> Samples:
        classes = classes.to(self.device)
        return self._follow(len(classes), rng, lambda x, t: self.velocity(x, t, classes))

    def _draw(self, n: int, rng: torch.Generator) -> Samples:
        return self._follow(n, rng, self.velocity)

    def _follow(self, n: int, rng: torch.Generator, velocity: Callable[[Tensor, float], Tensor]) -> Samples:
        x = torch.randn(n, *self.spec.shape, generator=rng).to(self.device)
        x = integrate(self.solver, velocity, x, begin=0.0, end=1.0, n_steps=self.n_steps)
        if self.modality == "points":
            return Points(x.cpu())
        return Images(to_levels(x, self.spec.vocab_size).to(torch.uint8).cpu(), self.spec.vocab_size)

    def velocity(self, x: Tensor, t: float, classes: Tensor | None = None) -> Tensor:
        """dx/dt of all x [B, ...] at one time; towards classes [B] as the guidance says, or towards any."""
        times = x.new_full((len(x),), t)
        given = self(x, times, classes)
        # a weight of 1 leaves nothing of the other velocity, and is half the work
        if classes is None or self.guidance is None or self.guidance.weight == 1:
            return given
        return self.guidance.guided(self(x, times), given)

    def log_likelihood(
        self, batch: Samples, *, rng: torch.Generator, importance_samples: int = 1
    ) -> LogLikelihood | None:
        """Of points, by d log p(x(t))/dt = -div v(x(t), t) (Chen et al. 2018, theorem 1), back from t = 1 to 0;
        exact but for the solver's steps, of which it takes `FINER` times as many as a sample.

        None for images. The bound from uniform dequantisation, with Hutchinson's estimate of the divergence, is
        flattered by large steps: 8x8 digits had 2.21 bits per pixel at the 20 steps that a sample takes, 2.28 at
        80 and 2.29 at 80 of fourth order. At as many, 10,000 images of 28x28 would take an hour.
        """
        if not isinstance(batch, Points):
            return None
        with evaluating(self):
            nats = torch.cat([self._log_density(part) for part in batch.coordinates.split(POINTS_AT_ONCE)])
        return LogLikelihood(nats, torch.tensor(batch.bytes_per_item()), "exact")

    def _log_density(self, points: Tensor) -> Tensor:
        """log p of points [B, d], float64 on the CPU."""
        d = points.shape[1]

        def field(state: Tensor, t: float) -> Tensor:
            with torch.enable_grad():
                x = state[:, :d].detach().requires_grad_(True)
                v = self.velocity(x, t)
                slopes = [torch.autograd.grad(v[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(d)]
            divergence = torch.stack(slopes, 1).sum(1, keepdim=True)
            return torch.cat([v, divergence], 1).detach()

        with torch.inference_mode(False):
            x = points.to(self.device, copy=True)
            start = torch.cat([x, x.new_zeros(len(x), 1)], 1)
            end = integrate(self.solver, field, start, begin=1.0, end=0.0, n_steps=FINER * self.n_steps)
            # summed on the way back, so with its sign turned: log p(x_1) = log N(x_0) - ∫ div v dt
            x_0, log_volume = end[:, :d].double(), end[:, d].double()
            return (gaussian_log_density(x_0, 0.0, torch.zeros_like(x_0)) + log_volume).cpu()
