"""What a judge says of samples: a language model that did not write them, or a classifier of their labels.

The judge itself is not here. These are functions of its log-probabilities in nats, and of its class
probabilities.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aigc_lab.estimate import Estimate
from aigc_lab.evaluation.metrics.checks import checked_probabilities


def bits_per_byte(nats: Tensor, n_bytes: Tensor) -> Estimate:
    """-Σ nats / (ln 2 · Σ bytes), the interval over items; of differences of nats it is a paired difference.

    Of held-out items under a generator: lower is better, blind to the quality of samples. Of samples under a judge
    (their fluency): it is to match real text's, for a loop of the likeliest words costs the judge less than any
    real text (Holtzman et al. 2020); blind to copying. Items without a byte do not count.

    Args:
        nats: log p of each item, [n].
        n_bytes: bytes of each, [n].
    """
    bits, size = -nats.double()[n_bytes > 0] / math.log(2), n_bytes.double()[n_bytes > 0]
    value = float(bits.sum() / size.sum())
    return Estimate.linear(value, (bits - value * size) / size.mean())


def fluency_distance(real: Tensor, generated: Tensor) -> Estimate:
    """The Wasserstein-1 distance between the laws of bits per byte of single texts, real [m] and generated [n].

    Half loops and half noise can match the mean; they do not match the law. 0 at identical laws, where the
    estimate is positive by about the standard error of a mean: compare with held-out text. The interval is over
    both sets (to first order; it does not know that bias).
    """
    if not (len(real) and len(generated)):
        return Estimate.unknown()
    real, generated = real.double().sort().values, generated.double().sort().values
    at = torch.cat([real, generated]).sort().values
    step = at.diff()
    below_real, below_generated = (
        torch.searchsorted(values, at[:-1], right=True) / len(values) for values in (real, generated)
    )
    difference = below_generated - below_real
    # d|F - G| = sign(F - G) d(F - G): an item at x adds the integral of the sign from x on
    potential = torch.cat([(difference.sign() * step).flip(0).cumsum(0).flip(0), torch.zeros(1, dtype=at.dtype)])
    return Estimate.linear(
        float((difference.abs() * step).sum()),
        potential[torch.searchsorted(at, real)],
        potential[torch.searchsorted(at, generated)],
    )


@dataclass(frozen=True)
class Dependence:
    """How much a text depends on what came before it, by the judge's likelihoods.

    Attributes:
        gain: bits per byte that its own beginning saves the judge over a foreign one.
        preferred: the share of texts that the judge finds likelier behind their own; 0.5 if it does not matter.
    """

    gain: Estimate
    preferred: Estimate


def dependence(own: Tensor, foreign: Tensor, n_bytes: Tensor) -> Dependence:
    """log p(text | its own beginning) against log p(text | the beginning of another), both [n].

    With the halves of samples this is their coherence; with a prompt and its continuation, whether the sample
    matches its condition. Under an exact judge the expected gain is I(A; B) + KL(p(a) p(b) || p(a, b)) of
    beginning A and text B, the Jeffreys divergence between their joint law and independence, over the bytes: 0
    for independent halves. Compare with real text's. Blind to copying, and a text that repeats itself gains much.
    Texts without a byte do not count.
    """
    size = n_bytes.double()[n_bytes > 0]
    bits = (own.double() - foreign.double())[n_bytes > 0] / math.log(2)
    gain = float(bits.sum() / size.sum())
    ahead = (bits > 0).double() + (bits == 0).double() / 2
    return Dependence(
        Estimate.linear(gain, (bits - gain * size) / size.mean()),
        Estimate.mean_of(ahead),
    )


@dataclass(frozen=True)
class Halves:
    """Texts cut for `dependence`: the judge reads `own` or `foreign` first, then has to predict `text`."""

    own: list[bytes]
    foreign: list[bytes]
    text: list[bytes]


def halves(texts: Sequence[bytes], *, bridge: int) -> Halves:
    """Each text's second half, its own first half, and the first half of the text before it in the list.

    The first `bridge` bytes of the second half follow either first half unjudged: that a word goes on across the
    cut is no coherence, and what the last few bytes alone tell is the same behind both.
    """
    cuts = [len(text) // 2 for text in texts]
    first = [text[:cut] for text, cut in zip(texts, cuts, strict=True)]
    bridges = [text[cut : cut + bridge] for text, cut in zip(texts, cuts, strict=True)]
    return Halves(
        own=[a + b for a, b in zip(first, bridges, strict=True)],
        foreign=[a + b for a, b in zip(first[-1:] + first[:-1], bridges, strict=True)],
        text=[text[cut + bridge :] for text, cut in zip(texts, cuts, strict=True)],
    )


UNIT = re.compile(rb".+?(?:\n+|[.!?]\s+|(?:\xe3\x80\x82|\xef\xbc\x81|\xef\xbc\x9f)\s*)", re.DOTALL)
"""A line, or a sentence (Chinese ones end without a space), with what divides it from the next."""


def reordered(texts: Sequence[bytes], *, rng: torch.Generator) -> tuple[list[bytes], list[bytes]]:
    """Texts with their lines and sentences in their own order, and in another (Barzilay & Lapata 2008).

    The first and the last of a text are left out of both, for a passage cuts them anywhere. Texts that have no
    other order then are left out. What is left is for `dependence`: a judge that finds the own order likelier in
    half of the texts has found none. Compare with real text. Blind to copying.
    """
    own, other = [], []
    for text in texts:
        units = UNIT.findall(text)[1:]
        shuffled = b"".join(units[i] for i in torch.randperm(len(units), generator=rng).tolist())
        if shuffled != b"".join(units):
            own.append(b"".join(units))
            other.append(shuffled)
    return own, other


def conditional_accuracy(probabilities: Tensor, labels: Tensor) -> Estimate:
    """The share of samples that the classifier gives the label that they were made for.

    Args:
        probabilities: of each class for each sample, [n, K].
        labels: that were asked for, int64 [n].

    1/K where the condition is ignored and classes are balanced. Compare with the classifier's own accuracy on
    held-out data: more than that is a sign of samples that are more typical than real ones, not of better ones.
    """
    predicted = checked_probabilities(probabilities).argmax(1)
    if labels.shape != predicted.shape or labels.is_floating_point():
        found = f"{labels.dtype} {tuple(labels.shape)}"
        raise ValueError(f"labels: should be {len(predicted)} whole numbers, one a sample, not {found}")
    hits = predicted == labels
    return Estimate.share(int(hits.sum()), len(hits))
