"""A generator of images whose latents are grids of codes.

Shapes: B batch, L = h · w positions of a grid, D channels of a code's vector.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from aigc_lab.data.samples import Images, Samples
from aigc_lab.data.spec import DataSpec
from aigc_lab.generators import (
    Autoregressive,
    LogLikelihood,
    NeuralGenerator,
    emitted,
    evaluating,
    require,
    symbol_log_p,
)
from aigc_lab.nets.architecture import at_least_float32
from aigc_lab.nets.codes import CodePrior, Strided, nearest
from aigc_lab.nets.transformer import Transformer
from aigc_lab.objectives.likelihoods import Likelihood, to_unit


class Quantised(NeuralGenerator):
    """p(x) = Σ_c p(c) p(x | c) over grids of codes, with c(x) for each image (van den Oord et al. 2017).

    Args:
        codes: the networks and the size of the codebook.
        likelihood: p(x | c) given the decoder's maps.
        emit: as for `LatentVariable`.
        prior: p(c), a Transformer; None: uniform, which is what codes are learnt with (section 3.1).
    """

    codebook: Tensor

    def __init__(
        self,
        *,
        spec: DataSpec,
        codes: Strided,
        likelihood: Likelihood,
        emit: Literal["sample", "median"],
        prior: CodePrior | None = None,
    ) -> None:
        super().__init__(spec)
        require(spec, "image")
        likelihood.check(spec.vocab_size)
        self.likelihood, self.emit, self.n_codes = likelihood, emit, codes.n_codes
        self.grid = codes.grid(spec.shape)
        channels, *sides = spec.shape
        self.encoder = codes.encoder(spec.shape)
        self.decoder = codes.decoder((likelihood.n_maps(spec.vocab_size) * channels, *sides))
        self.register_buffer("codebook", torch.zeros(codes.n_codes, codes.code_dim))
        self.prior: Autoregressive | None = None
        if prior is not None:
            of_codes = replace(spec, name="codes", shape=(1, *self.grid), vocab_size=codes.n_codes)
            network = prior.network(self.grid, codes.n_codes)
            self.prior = Autoregressive(spec=of_codes, network=network)

    @property
    def length(self) -> int:
        """L."""
        return self.grid[0] * self.grid[1]

    @property
    def network(self) -> Transformer:
        """The prior's."""
        assert self.prior is not None and isinstance(self.prior.network, Transformer)
        return self.prior.network

    def features(self, pixels: Tensor) -> Tensor:
        """What is quantised, [B, L, D]."""
        return at_least_float32(self.encoder(to_unit(pixels, self.spec.vocab_size))).flatten(2).mT

    def quantise(self, z_BLD: Tensor) -> Tensor:
        """The nearest codes, int64 [B, L]."""
        return nearest(z_BLD.flatten(0, 1), self.codebook).view(z_BLD.shape[:2])

    def log_p_x(self, pixels: Tensor, vectors_BLD: Tensor) -> Tensor:
        """log p(x | c) for the vectors of the codes, [B] nats."""
        return self.likelihood.log_prob(self.maps(vectors_BLD), pixels, self.spec.vocab_size)

    def maps(self, vectors_BLD: Tensor) -> Tensor:
        """The decoder's."""
        return at_least_float32(self.decoder(vectors_BLD.mT.unflatten(2, self.grid)))

    @torch.inference_mode()
    def reconstruct(self, batch: Images) -> Images:
        """The middle of p(x | c(x)) of each image."""
        with evaluating(self):
            parts = [self._reconstructed(pixels.to(self.device)) for pixels in batch.pixels.split(self.batch)]
        return Images(torch.cat(parts).to(torch.uint8).cpu(), batch.levels)

    def _reconstructed(self, pixels: Tensor) -> Tensor:
        maps = self.maps(self.codebook[self.quantise(self.features(pixels))])
        return self.likelihood.median(maps, self.spec.vocab_size)

    def _draw(self, n: int, rng: torch.Generator) -> Samples:
        if self.prior is None:
            codes = torch.randint(self.n_codes, (n, self.length), generator=rng)
        else:
            codes = self.prior.continue_symbols(torch.zeros(n, 0, dtype=torch.long), self.length, rng=rng)
        maps = self.maps(self.codebook[codes.to(self.device)])
        return emitted(self.likelihood, maps, self.spec.vocab_size, self.emit, rng)

    def sampling_parameters(self) -> Iterator[nn.Parameter]:
        yield from self.decoder.parameters()
        if self.prior is not None:
            yield from self.prior.parameters()

    @torch.inference_mode()
    def log_likelihood(
        self, batch: Samples, *, rng: torch.Generator, importance_samples: int = 1
    ) -> LogLikelihood:
        """log p(c(x)) + log p(x | c(x)): one term of the sum, and so a lower bound. It has no noise."""
        assert isinstance(batch, Images)
        nats = []
        with evaluating(self):
            for pixels in batch.pixels.split(self.batch):
                pixels = pixels.to(self.device)
                codes = self.quantise(self.features(pixels))
                nats.append(self.log_p_x(pixels, self.codebook[codes]).double().cpu() + self._log_p(codes))
        return LogLikelihood(torch.cat(nats), torch.tensor(batch.bytes_per_item()), "lower bound")

    def _log_p(self, codes_BL: Tensor) -> Tensor:
        """log p(c), float64 [B] nats."""
        if self.prior is None:
            uniform = -self.length * torch.tensor(float(self.n_codes), dtype=torch.float64).log()
            return uniform.expand(len(codes_BL))
        context, device = self.network.context, self.device
        found = symbol_log_p(self.prior.logits, list(codes_BL.cpu()), context=context, device=device)
        return torch.stack([log_p.sum() for log_p in found])
