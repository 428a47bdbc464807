"""A generator that unmasks: each symbol given any others, in an order drawn at random.

Shapes: B rows, L positions of a window, P given symbols, V symbols.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from aigc_lab.data.packing import PADDING, padded
from aigc_lab.data.samples import Samples, Texts
from aigc_lab.data.spec import DataSpec
from aigc_lab.data.tokens import whole
from aigc_lab.decoding import invert
from aigc_lab.generators import LogLikelihood, NeuralGenerator, evaluating, require, sliding_windows
from aigc_lab.nets.transformer import Transformer
from aigc_lab.objectives.any_order import bound, draw_mask, stratified
from aigc_lab.types import PositiveInt

GROUP = 64
"""Windows whose likelihood is bounded side by side."""


class AnyOrder(NeuralGenerator):
    """p(x_i | the symbols that are not masked), of one network for all i and all masks (Hoogeboom et al. 2022).

    A sample is a window of masks, unmasked `at_once` symbols at a time at places drawn uniformly. A text goes on
    as the second half of a window that begins with its end; in such windows a long text's likelihood is bounded.

    Args:
        network: it sees to both sides; its symbol `start` is the mask.
        at_once: symbols that are drawn at once, as if they did not depend on each other. With 1, a window takes as
            many evaluations of the network as it has symbols; with more, fewer, and samples and bound are those of
            another, worse law.

    Raises:
        ValueError: the network sees to one side only.
    """

    def __init__(self, *, spec: DataSpec, network: Transformer, at_once: PositiveInt) -> None:
        super().__init__(spec)
        require(spec, "image", "text")
        if network.causal:
            raise ValueError("network.causal=true: what is unmasked has to see to both sides; it should be false")
        self.network, self.at_once = network, at_once

    def bound(
        self, symbols_BL: Tensor, documents_BL: Tensor | None, free_BL: Tensor, step_B: Tensor, order_BL: Tensor
    ) -> Tensor:
        """One draw of a bound on log p of the free symbols given the others, [B] nats.

        Args:
            documents_BL: see `Transformer`.
            free_BL, step_B, order_BL: see `draw_mask`.
        """
        masked, weight = draw_mask(free_BL, self.at_once, step_B, order_BL)
        return bound(self.logits(symbols_BL, masked, documents_BL), symbols_BL, masked, weight)

    def logits(self, symbols_BL: Tensor, masked_BL: Tensor, documents_BL: Tensor | None = None) -> Tensor:
        """Logits [B, L, V] of each symbol given those that are not masked."""
        read = symbols_BL.masked_fill(masked_BL, self.network.start)
        return self.network(read, documents_BL=documents_BL)[..., : self.network.start]

    def fill(self, given_BP: Tensor, length: int, rngs: Sequence[torch.Generator]) -> Tensor:
        """`length` symbols behind the given ones, all in one window: [B, length], on the CPU.

        Args:
            rngs: one a row.
        """
        n_given = given_BP.shape[1]
        order = torch.stack([torch.randperm(length, generator=rng) for rng in rngs]) + n_given
        uniforms = torch.stack([torch.rand(length, generator=rng, dtype=torch.float64) for rng in rngs])
        symbols = torch.cat([given_BP, given_BP.new_zeros(len(rngs), length)], 1).to(self.device)
        masked = torch.ones_like(symbols, dtype=torch.bool)
        masked[:, :n_given] = False
        for places, numbers in zip(order.split(self.at_once, 1), uniforms.split(self.at_once, 1), strict=True):
            places = places.to(self.device)
            logits = self.logits(symbols, masked)
            chosen = logits.gather(1, places[..., None].expand(-1, -1, logits.shape[-1]))
            drawn = invert(chosen.flatten(0, 1).double().cpu(), numbers.flatten()).view(places.shape)
            symbols.scatter_(1, places, drawn.to(self.device))
            masked.scatter_(1, places, False)
        return symbols[:, n_given:].cpu()

    def continue_bytes(self, prompt_BP: Tensor, n_bytes: int, *, rng: torch.Generator) -> Tensor:
        """Append symbols of a text until every prompt has at least `n_bytes` bytes more, [B, P + L]."""
        assert self.spec.tokenizer is not None
        sizes, text = self.spec.tokenizer.sizes, prompt_BP
        rngs = _each(len(prompt_BP), rng)
        context = self.network.context
        with evaluating(self), torch.inference_mode():
            while len(text) and int(sizes[text[:, prompt_BP.shape[1] :]].sum(1).min()) < n_bytes:
                given = text[:, -(context - context // 2) :]
                text = torch.cat([text, self.fill(given, context - given.shape[1], rngs)], 1)
        return text

    def _draw(self, n: int, rng: torch.Generator) -> Samples:
        empty = torch.zeros(n, 0, dtype=torch.long)
        if self.modality == "image":
            return self.spec.decode(self.fill(empty, self.spec.length, _each(n, rng)))
        samples = self.spec.decode(self.continue_bytes(empty, self.spec.passage, rng=rng))
        assert isinstance(samples, Texts)
        return Texts([whole(passage[: self.spec.passage]) for passage in samples.passages])

    @torch.inference_mode()
    def log_likelihood(
        self, batch: Samples, *, rng: torch.Generator, importance_samples: int = 1
    ) -> LogLikelihood:
        """A lower bound, estimated with so many masks for each window of a text. More make the estimate less noisy
        and the bound no tighter. A text longer than the context is read in windows as `Autoregressive`'s is."""
        sequences = self.spec.encode(batch)
        windows = [(i, *w) for i, s in enumerate(sequences) for w in sliding_windows(len(s), self.network.context)]
        nats = torch.zeros(len(sequences), dtype=torch.float64)
        with evaluating(self):
            for group in torch.arange(len(windows)).split(GROUP):
                chosen = [windows[j] for j in group.tolist()]
                rows = padded([sequences[i][begin:end] for i, begin, _, end in chosen])
                there = rows != PADDING
                column, given = torch.arange(rows.shape[1]), torch.tensor([w[2] - w[1] for w in chosen])
                for _ in range(importance_samples):
                    found = self.bound(
                        rows.clamp(min=0).to(self.device),
                        documents_BL=there.long().to(self.device),
                        free_BL=(there & (column >= given[:, None])).to(self.device),
                        step_B=stratified(torch.rand(1, generator=rng), len(rows)).to(self.device),
                        order_BL=torch.rand(rows.shape, generator=rng).to(self.device),
                    )
                    nats.index_add_(0, torch.tensor([i for i, *_ in chosen]), found.double().cpu())
        n_bytes = torch.tensor(batch.bytes_per_item())
        return LogLikelihood(nats / importance_samples, n_bytes, "lower bound", is_estimate=True)


def _each(n: int, rng: torch.Generator) -> list[torch.Generator]:
    """A random generator for each of n rows."""
    seeds = torch.randint(2**62, (n,), generator=rng).tolist()
    return [torch.Generator().manual_seed(seed) for seed in seeds]
