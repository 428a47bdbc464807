"""Images in two stages: codes are learnt, and then their law."""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from aigc_lab.data.packing import Batch, Windows
from aigc_lab.generators import behind_start, evaluating, fill
from aigc_lab.modules.base import GenerativeModule, Plan
from aigc_lab.modules.symbols import SymbolModel
from aigc_lab.nets.codes import CodePrior, MovingMeans, Strided
from aigc_lab.objectives.likelihoods import Likelihood
from aigc_lab.quantised import Quantised
from aigc_lab.run import Run
from aigc_lab.types import Fraction, NonNegativeFloat, PositiveFloat


class VQVAE(GenerativeModule):
    """Minimises -log p(x | c(x)) + β |z(x) - sg e_c(x)|² in nats per image, gradients passing straight through the
    quantisation (van den Oord et al. 2017, equation 3).

    The codebook is no parameter: an entry is the moving average of the vectors that it is nearest to (appendix
    A.1), over all processes. Entries that hardly any vector is near to become vectors of the batch, as they would
    never be used again otherwise (Łańcucki et al. 2020). So the codebook begins as vectors of the first batch.

    Args:
        codes: the networks and the size of the codebook.
        likelihood: p(x | c) given the decoder's maps.
        emit: what samples show, see `LatentVariable`; the codes of this stage's samples are uniform.
        commitment: β.
        decay: of the moving averages, per batch.
        restart_below: vectors of a batch: an entry that has no more, on the moving average, begins anew.
        lr: learning rate at the schedule's peak.
    """

    def __init__(
        self,
        *,
        codes: Strided,
        likelihood: Likelihood,
        emit: Literal["sample", "median"],
        commitment: NonNegativeFloat,
        decay: Fraction,
        restart_below: Fraction,
        lr: PositiveFloat,
        plan: Plan,
    ) -> None:
        super().__init__(plan)
        self.generator = Quantised(spec=plan.spec, codes=codes, likelihood=likelihood, emit=emit)
        averages = {"decay": decay, "restart_below": restart_below}
        self.means = MovingMeans(codes.n_codes, codes.code_dim, **averages)
        self.commitment, self.lr = commitment, lr

    @property
    def sampler(self) -> Quantised:
        return self.generator

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        (optimizer,) = self.each_optimizer()
        z = self.generator.features(batch)
        codes = self.generator.quantise(z)
        vectors = self.generator.codebook[codes]
        log_p_x = self.generator.log_p_x(batch, z + (vectors - z).detach()).mean()
        distance = (z - vectors).square().flatten(1).sum(1).mean()
        loss = self.descend(optimizer, [self.commitment * distance - log_p_x])
        self._move_codebook(z.detach().flatten(0, 1), codes.flatten())
        values = {"reconstruction": -log_p_x, "distance": distance, "codes": self.means.perplexity()}
        self.report({"loss": loss, **values})

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """A bound, as of every model of likelihood: with what codes cost that are uniform."""
        generator = self.generator
        log_p_x = generator.log_p_x(batch, generator.codebook[generator.quantise(generator.features(batch))])
        code_length = generator.length * math.log(generator.n_codes)
        self.log("val/loss", code_length - log_p_x.mean(), batch_size=len(batch), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.make_optimizer(self.generator.parameters(), self.lr)

    @torch.no_grad()
    def _move_codebook(self, z_ND: Tensor, codes_N: Tensor) -> None:
        """By the vectors of all processes; new entries are the first one's. So it is the same everywhere."""
        n_codes, dim = self.generator.codebook.shape
        chosen = F.one_hot(codes_N, n_codes).float()
        fresh = z_ND[torch.randint(len(z_ND), (n_codes,), device=self.device)] * (self.global_rank == 0)
        with torch.autocast(self.device.type, enabled=False):
            ours = torch.cat([chosen.sum(0)[:, None], chosen.T @ z_ND, fresh], 1)
        counts, sums, fresh = self.trainer.strategy.reduce(ours, reduce_op="sum").split([1, dim, dim], 1)
        self.generator.codebook.copy_(self.means.update(counts[:, 0], sums, fresh))


class CodeTransformer(SymbolModel):
    """Minimises -log p(c(x)) of the codes of a finished run of `VQVAE`, which stays as it is, in nats per code.

    Args:
        run: its directory, needed until this run is trained.
        codes, likelihood: of that run.
        emit: what samples show, see `LatentVariable`.
        prior: p(c).
        lr: learning rate at the schedule's peak.

    Raises:
        ValueError: the run is not of a `VQVAE`, or of other images than the data.
        UserError: it is not finished.
    """

    generator: Quantised

    def __init__(
        self,
        *,
        run: str,
        codes: Strided,
        likelihood: Likelihood,
        emit: Literal["sample", "median"],
        prior: CodePrior,
        lr: PositiveFloat,
        plan: Plan,
    ) -> None:
        super().__init__(plan)
        opened = Run.open(run)
        weights, spec = opened.weights(), plan.spec
        if weights.kind != Quantised.__name__:
            raise ValueError(f"run={run}: has no codes; name a run of model=vqvae")
        if (weights.spec.shape, weights.spec.vocab_size) != (spec.shape, spec.vocab_size):
            raise ValueError(f"run={run}: its codes are of other images than {spec.name}")
        if weights.spec.content_hash != spec.content_hash:
            raise ValueError(f"run={run}: its codes are of other images, or of some that are held out here")
        coder = Quantised(spec=spec, codes=codes, likelihood=likelihood, emit=emit)
        fill(coder, opened)
        self.generator = Quantised(spec=spec, codes=codes, likelihood=likelihood, emit=emit, prior=prior)
        self.generator.load_state_dict(coder.state_dict(), strict=False)  # all but the prior
        self.generator.encoder.requires_grad_(False)
        self.generator.decoder.requires_grad_(False)
        self.lr = lr

    @property
    def sampler(self) -> Quantised:
        return self.generator

    def n_symbols(self, batch: Batch) -> int:
        assert not isinstance(batch, Windows)
        return len(batch) * self.generator.length

    def nats(self, batch: Batch) -> Tensor:
        assert not isinstance(batch, Windows)
        # without autocast: the very codes whose law is judged afterwards
        exactly = torch.autocast(self.device.type, enabled=False)
        with torch.no_grad(), evaluating(self.generator.encoder), exactly:
            codes = self.generator.quantise(self.generator.features(batch))
        network = self.generator.network
        logits = network(behind_start(codes, network.start))
        return F.cross_entropy(logits.flatten(0, 1).float(), codes.flatten(), reduction="sum")
