"""Runs that begin as other runs: trained further, or by preferences."""

from copy import deepcopy
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from aigc_lab.data.packing import IGNORED, Batch, Windows, inputs
from aigc_lab.generators import evaluating, fill
from aigc_lab.modules.base import GenerativeModule, Plan
from aigc_lab.modules.language_model import FineTuning, LanguageModel
from aigc_lab.nets.adapters import LoRA, merged
from aigc_lab.nets.pretrained import Pretrained
from aigc_lab.nets.transformer import Transformer
from aigc_lab.objectives.preference import dpo, dpo_margin
from aigc_lab.run import Run
from aigc_lab.types import PositiveFloat


class FineTuned(FineTuning):
    """A language model that begins with the weights of a finished run.

    Args:
        run: its directory, needed until this run is trained.
        base: the model of that run.
        lr: learning rate at the schedule's peak.
        adapters: train these, and leave the weights as they are; None: train all weights.

    Raises:
        ValueError: the run is no language model of texts, or of other symbols than the data.
        UserError: it is not finished.
    """

    def __init__(
        self, *, run: str, base: GenerativeModule, lr: PositiveFloat, plan: Plan, adapters: LoRA | None = None
    ) -> None:
        GenerativeModule.__init__(self, plan)
        opened = Run.open(run)
        theirs, ours = opened.weights().spec, plan.spec
        if not isinstance(base, LanguageModel) or theirs.tokenizer is None or ours.tokenizer is None:
            raise ValueError(f"run={run}: is no language model of texts")
        if theirs.tokenizer.hash != ours.tokenizer.hash:
            raise ValueError(f"run={run}: was trained on other symbols; take its own with data/tokenizer=run")
        network = base.generator.network
        if isinstance(network, Transformer) and network.positions is not None and theirs.shape != ours.shape:
            raise ValueError(f"run={run}: has learnt {theirs.length} positions; give data.context={theirs.length}")
        fill(base.generator, opened)
        self._adopt(base.generator, lr, adapters)


class DPO(FineTuned):
    """Direct preference optimisation (Rafailov et al. 2023): `aigc_lab.objectives.preference.dpo`, of pairs of
    responses. The reference is the run as it began; it stands in the checkpoints.

    Args:
        run, base, lr, adapters: as for `FineTuned`.
        beta: how much a nat away from the reference costs.
    """

    can_split: ClassVar[bool] = False
    wants_pairs: ClassVar[bool] = True

    def __init__(
        self,
        *,
        run: str,
        base: GenerativeModule,
        lr: PositiveFloat,
        beta: PositiveFloat,
        plan: Plan,
        adapters: LoRA | None = None,
    ) -> None:
        super().__init__(run=run, base=base, lr=lr, plan=plan, adapters=adapters)
        network = self.generator.network
        self.reference = merged(network) if adapters else deepcopy(network)
        self.reference.requires_grad_(False)
        self.beta = beta

    def pair_log_p(self, batch: Windows) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the chosen and of the rejected response, [B, 2] nats each: the policy's, and the
        reference's."""
        with torch.no_grad(), evaluating(self.reference):
            reference = response_log_p(self.reference, batch)
        return response_log_p(self.generator.network, batch).view(-1, 2), reference.view(-1, 2)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        assert isinstance(batch, Windows)
        (optimizer,) = self.each_optimizer()
        policy, reference = self.pair_log_p(batch)
        loss = self.descend(optimizer, [dpo(policy, reference, beta=self.beta).mean()])
        margin = dpo_margin(policy, reference, beta=self.beta)
        self.report({"loss": loss, "margin": margin.mean(), "preferred": (margin > 0).float().mean()})

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        assert isinstance(batch, Windows)
        policy, reference = self.pair_log_p(batch)
        margin = dpo_margin(policy, reference, beta=self.beta)
        values = {"val/loss": -F.logsigmoid(margin).mean(), "val/preferred": (margin > 0).float().mean()}
        self.log_dict(values, batch_size=len(margin), sync_dist=True)


def response_log_p(network: Transformer | Pretrained, batch: Windows) -> Tensor:
    """Σ log p of the learnt symbols of each window, [b] nats."""
    logits = network(inputs(batch, network.start), documents_BL=batch.documents)
    nats = F.cross_entropy(logits.mT.float(), batch.targets, ignore_index=IGNORED, reduction="none")
    return -nats.sum(1)
