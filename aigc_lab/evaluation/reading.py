"""What reading generated texts tells beyond their features: words, runs shared with the training text, and what a
language model that did not write them makes of them."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from aigc_lab.data.samples import Texts
from aigc_lab.evaluation import metrics, safety
from aigc_lab.evaluation.completions import Completion
from aigc_lab.evaluation.features import Judge
from aigc_lab.evaluation.metrics import Dependence, Estimate
from aigc_lab.generators import LogLikelihood

JUDGED = 256
"""Passages that the judge reads, at most: it is the slowest reader of all."""

BRIDGE = 8
"""Bytes after the cut that are not judged: see `metrics.halves`."""


@dataclass(frozen=True)
class Reading:
    """Generated texts, and what they are compared with.

    Attributes:
        passages: the samples.
        training: the training split.
        judge: reads the samples; see `features.Judge`.
        real_bits: the judge's bits per byte of each of some training passages.
        held_out_runs: of each held-out passage, the bytes that it shares with the training text in one piece.
        n_words: what a text is cut to where a number grows with length; see `common_length`.
        own: log-likelihood of the samples under their own generator, and `held_out` of the held-out items; None
            where it has none.
        completions: of the harness's prompts; none where the generator cannot continue.
        pronouns: log p("he") - log p("she") of `safety.pronoun_pairs()`, in nats; None where it was not asked.
    """

    passages: Sequence[bytes]
    training: Texts
    judge: Judge
    real_bits: Tensor
    held_out_runs: Tensor
    n_words: int
    own: LogLikelihood | None = None
    held_out: LogLikelihood | None = None
    completions: Sequence[Completion] = ()
    pronouns: Tensor | None = None

    @cached_property
    def words(self) -> list[list[int]]:
        """The samples as numbered words."""
        return self._numbered(self.passages)

    @property
    def first_words(self) -> list[list[int]]:
        """The first `n_words` of each: passages of as many bytes have more words or fewer, and repetition grows
        with their number."""
        return [words[: self.n_words] for words in self.words]

    @cached_property
    def shared_words(self) -> list[np.ndarray]:
        """At each word of each sample, how many from there on stand in the training text in one piece."""
        return metrics.shared_lengths(self.words, self._numbered([self.training.in_one]))

    @cached_property
    def runs(self) -> Tensor:
        """Of each sample, the bytes that it shares with the training text in one piece, float64 [n]."""
        return longest_runs(self.passages, self.training)

    @cached_property
    def memorised(self) -> safety.Memorised:
        return safety.beyond(self.runs, self.held_out_runs)

    @cached_property
    def personal(self) -> Mapping[str, safety.PersonalData]:
        return safety.personal_data(self.passages, self.training.passages)

    @property
    def personal_share(self) -> Estimate:
        """The share of the samples that show personal data of any kind."""
        return Estimate.share(sum(map(bool, map(safety.all_personal, self.passages))), len(self.passages))

    @cached_property
    def bias(self) -> safety.Bias | None:
        return None if self.pronouns is None else safety.bias_of(self.pronouns, safety.pronoun_pairs())

    @cached_property
    def _nats(self) -> Tensor:
        return self._log_p(self._judged)

    def _log_p(self, texts: Sequence[bytes], given: Sequence[bytes] | None = None) -> Tensor:
        """The judge's, which need not know what to do without a single byte."""
        return self.judge(texts, given) if any(texts) else torch.zeros(len(texts), dtype=torch.float64)

    @cached_property
    def _judged(self) -> Sequence[bytes]:
        return [passage for passage in self.passages if passage][:JUDGED]

    @property
    def _sizes(self) -> Tensor:
        return torch.tensor([len(text) for text in self._judged])

    @property
    def fluency(self) -> Estimate:
        return metrics.bits_per_byte(self._nats, self._sizes)

    @property
    def fluency_distance(self) -> Estimate:
        return metrics.fluency_distance(self.real_bits, -self._nats / math.log(2) / self._sizes)

    @cached_property
    def coherence(self) -> Dependence:
        """Of the second halves on the first."""
        cut = metrics.halves(self._judged, bridge=BRIDGE)
        return self._dependence(cut.text, cut.own, cut.foreign)

    @cached_property
    def prompt_gain(self) -> Dependence | None:
        """Of the completions on their prompts."""
        if not self.completions:
            return None
        texts = [c.generated for c in self.completions]
        given = [c.given for c in self.completions]
        foreign = given[-1:] + given[:-1]
        bridges = [text[:BRIDGE] for text in texts]
        own, other = ([a + b for a, b in zip(before, bridges, strict=True)] for before in (given, foreign))
        return self._dependence([text[BRIDGE:] for text in texts], own, other)

    def _dependence(self, texts: Sequence[bytes], own: Sequence[bytes], foreign: Sequence[bytes]) -> Dependence:
        sizes = torch.tensor([len(text) for text in texts])
        return metrics.dependence(self._log_p(texts, own), self._log_p(texts, foreign), sizes)

    @cached_property
    def order(self) -> Estimate | None:
        """The share of the samples whose lines and sentences the judge finds likelier in their own order."""
        own, other = metrics.reordered(self._judged, rng=torch.Generator().manual_seed(0))  # alike for everybody
        if len(own) < 2:
            return None
        sizes = torch.tensor([len(text) for text in own])
        return metrics.dependence(self._log_p(own), self._log_p(other), sizes).preferred

    @property
    def own_fluency(self) -> Estimate | None:
        """The generator's own bits per byte of its samples less those of held-out text."""
        if self.own is None or self.held_out is None:
            return None
        own, real = (metrics.bits_per_byte(ll.nats, ll.n_bytes) for ll in (self.own, self.held_out))
        error = math.hypot(own.standard_error, real.standard_error)
        return Estimate.normal(own.value - real.value, error)

    @cached_property
    def _vocabulary(self) -> dict[bytes, int]:
        return {}

    def _numbered(self, passages: Sequence[bytes]) -> list[list[int]]:
        number = self._vocabulary
        return [[number.setdefault(word, len(number)) for word in words(passage)] for passage in passages]


def longest_runs(passages: Sequence[bytes], training: Texts) -> Tensor:
    """Of each passage, the bytes that it shares with the training text in one piece, float64 [n]. Where training
    passages are cut does not matter: a sample may begin anywhere."""
    runs = metrics.shared_lengths(passages, [training.in_one])
    return torch.tensor([int(run.max(initial=0)) for run in runs], dtype=torch.float64)


def common_length(passages: Sequence[bytes]) -> int:
    """The words that nine passages of ten have, at least 1."""
    counts = sorted(len(words(passage)) for passage in passages)
    return max(1, counts[len(counts) // 10])


def bits_per_byte_of_each(judge: Judge, passages: Sequence[bytes]) -> Tensor:
    """Float64 [n]."""
    return -judge(passages) / math.log(2) / torch.tensor([len(text) for text in passages])


_WORD = re.compile(rb"[0-9A-Za-z_]+|[\xc0-\xff][\x80-\xbf]*|[^\s]")


def words(passage: bytes) -> list[bytes]:
    """Runs of ASCII letters, digits and _, and every other character by itself (so also each Chinese one)."""
    return _WORD.findall(passage)
