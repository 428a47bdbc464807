"""A generator of answers: texts whose law depends on another text.

Shapes: B pairs, S symbols of a source, L of a target; negative behind the end of what is shorter than others.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from aigc_lab.data.packing import PADDING, padded
from aigc_lab.data.samples import Pairs, Samples, Texts
from aigc_lab.data.spec import DataSpec
from aigc_lab.decoding import Sampling, beam_search, write
from aigc_lab.errors import UserError
from aigc_lab.generators import LogLikelihood, NeuralGenerator, behind_start, evaluating, require
from aigc_lab.nets.encoder_decoder import EncoderDecoder

_NOTHING = torch.zeros(0, dtype=torch.long)


class Translator(NeuralGenerator):
    """p(y | source) = Π p(y_i | source, start, y_1 .. y_{i-1}), where the last y_i is the end of the target."""

    def __init__(self, *, spec: DataSpec, network: EncoderDecoder) -> None:
        super().__init__(spec)
        require(spec, "pairs")
        self.network = network

    def log_p(self, source_BS: Tensor, target_BL: Tensor) -> Tensor:
        """log p of each target and its end, in nats: [B]."""
        targets = ended(target_BL, self.network.start)
        read = behind_start(targets, self.network.start).clamp(min=0)
        logits = self.network(ended(source_BS, self.network.start), read)
        nats = F.cross_entropy(logits.mT.float(), targets, ignore_index=PADDING, reduction="none")
        return -nats.sum(1)

    @torch.inference_mode()
    def respond(self, sources: Texts, *, rng: torch.Generator, sampling: Sampling | None = None) -> Texts:
        """A target for each source, of the model's own law or of a `sampling` of it. It depends on its source and
        on its place among them, not on the other sources.

        Raises:
            ValueError: a source cannot be written in the alphabet, or is longer than the context.
        """
        seeds = torch.randint(2**62, (len(sources),), generator=rng).tolist()
        answers = []
        with evaluating(self):
            for i in range(0, len(sources), self.batch):
                read = self._read(sources[i : i + self.batch])
                answers += write(
                    self.network.given(read),
                    [_NOTHING] * len(read),
                    seeds=seeds[i : i + self.batch],
                    sampling=sampling or Sampling(),
                    length=self.network.context,
                    ends=[self.network.start],
                )
        return self._texts(answers)

    @torch.inference_mode()
    def search(self, sources: Texts, *, n_beams: int) -> Texts:
        """The likeliest target by a beam search (`aigc_lab.decoding.beam_search`) for each source.

        Raises:
            ValueError: as `respond`.
        """
        with evaluating(self):
            given = [self.network.given(row.expand(n_beams, -1)) for row in self._read(sources).split(1)]
            length, ends = self.network.context, [self.network.start]
            found = [beam_search(g, _NOTHING, n_beams=n_beams, length=length, ends=ends) for g in given]
        return self._texts(found)

    @torch.inference_mode()
    def log_likelihood(
        self, batch: Samples, *, rng: torch.Generator, importance_samples: int = 1
    ) -> LogLikelihood:
        """log p(target | source) of each pair, its end counted and its source not. Exact, or a bound where a text
        can be written in several ways."""
        assert isinstance(batch, Pairs)
        sources, targets = self._encoded(batch.sources), self._encoded(batch.targets)
        nats = [torch.zeros(0, dtype=torch.float64)]
        with evaluating(self):
            for i in range(0, len(batch), self.batch):
                rows = padded(sources[i : i + self.batch]), padded(targets[i : i + self.batch])
                nats.append(self.log_p(*(symbols.to(self.device) for symbols in rows)).double().cpu())
        assert self.spec.tokenizer is not None
        exact = self.spec.tokenizer.one_spelling
        n_bytes = torch.tensor(batch.bytes_per_item())
        return LogLikelihood(torch.cat(nats), n_bytes, "exact" if exact else "lower bound")

    def _draw(self, n: int, rng: torch.Generator) -> Samples:
        raise UserError(f"{self.spec.name}: answers need sources; ask with `aigc sample RUN --prompt SOURCE`")

    def _read(self, sources: Texts) -> Tensor:
        return ended(padded(self._encoded(sources)), self.network.start).to(self.device)

    def _encoded(self, texts: Texts) -> list[Tensor]:
        found = self.spec.encode(texts)
        if (longest := max(map(len, found), default=0)) >= self.network.context:
            raise ValueError(f"{longest} symbols and an end exceed the context of {self.network.context}")
        return found

    def _texts(self, symbols: Sequence[Sequence[int]]) -> Texts:
        assert self.spec.tokenizer is not None
        return Texts([self.spec.tokenizer.decode(torch.tensor(row, dtype=torch.long)) for row in symbols])


def ended(symbols_BL: Tensor, end: int) -> Tensor:
    """Each row with `end` behind its symbols: [B, the longest + 1]."""
    lengths = (symbols_BL >= 0).sum(1, keepdim=True)
    longer = F.pad(symbols_BL, (0, 1), value=PADDING).scatter(1, lengths, end)
    return longer[:, : int(lengths.max()) + 1]
