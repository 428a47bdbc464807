"""How much texts repeat themselves and one another. A text is a sequence of tokens, or bytes."""

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence

import torch
from torch import Tensor

from aigc_lab.estimate import Estimate

Text = Sequence[int] | bytes
"""Tokens or bytes."""


def repetition(texts: Sequence[Text], *, n: int = 4) -> Estimate:
    """rep-n (Welleck et al. 2020; Su et al. 2022): the share of a text's n-grams that it has used before,
    averaged over the texts that are long enough to have one.

    0 where no n-gram comes twice, near 1 in a loop. It grows with length: compare at equal lengths, with real
    texts. Blind to repetition between texts, and to copying.
    """
    counts = [Counter(ngrams(text, n)) for text in texts]
    shares = [1 - len(c) / c.total() for c in counts if c]
    return Estimate.mean_of(torch.tensor(shares, dtype=torch.float64))


def distinct(texts: Sequence[Text], *, n: int = 2) -> Estimate:
    """distinct-n (Li et al. 2016): different n-grams over all n-grams of the corpus.

    In (0, 1]; higher is more diverse, and random tokens score best. It falls with the number and length of the
    texts: compare at equal counts, with real texts. The interval is the jackknife's, over texts.
    """
    counts = [Counter(ngrams(text, n)) for text in texts]
    owners = Counter(gram for c in counts for gram in c)
    total = sum(c.total() for c in counts)
    if not total:
        return Estimate.unknown()
    value = len(owners) / total
    without = [(len(owners) - sum(owners[gram] == 1 for gram in c)) / max(1, total - c.total()) for c in counts]
    pseudo = len(counts) * value - (len(counts) - 1) * torch.tensor(without, dtype=torch.float64)
    return Estimate.linear(value, pseudo)


def self_bleu(texts: Sequence[Text], *, n: int = 3) -> Estimate:
    """Self-BLEU (Zhu et al. 2018): the mean BLEU-n of each text with all others as references, n-grams of 1 to n
    weighted alike, a count of none replaced by 0.1 (Chen & Cherry 2014, smoothing 1).

    1 where all texts are the same; lower is more diverse, yet real texts have about .86: compare with theirs at
    equal number and length, on which it depends. Blind to quality and to copying. Each n-gram keeps its two
    highest counts, so the cost is linear in the texts where others' is quadratic. The interval takes texts as
    independent. Texts without a token do not count.
    """
    texts = [text for text in texts if len(text)]
    if len(texts) < 2:
        return Estimate.unknown()
    log_precision = torch.zeros(len(texts), dtype=torch.float64)
    for order in range(1, n + 1):
        matched, total = _matches([Counter(ngrams(text, order)) for text in texts])
        if order == 1:
            shares_a_token = matched > 0
        log_precision += (torch.where(matched > 0, matched, 0.1) / total.clamp(min=1)).log() / n
    lengths = [len(text) for text in texts]
    brevity = [min(0.0, 1 - other / max(1, own)) for own, other in zip(lengths, _nearest(lengths), strict=True)]
    bleu = (log_precision + torch.tensor(brevity, dtype=torch.float64)).exp()
    return Estimate.mean_of(torch.where(shares_a_token, bleu, 0.0))


def _matches(counts: Sequence[Counter[Hashable]]) -> tuple[Tensor, Tensor]:
    """Of each text, how many n-grams the others cover (each no more often than one of them has it), and how many
    there are, float64 [n]."""
    highest: dict[Hashable, tuple[int, int, int]] = {}  # the two highest counts, and whose the first is
    for text, counter in enumerate(counts):
        for gram, count in counter.items():
            first, second, owner = highest.get(gram, (0, 0, -1))
            if count > first:
                highest[gram] = (count, first, text)
            elif count > second:
                highest[gram] = (first, count, owner)
    matched = []
    for text, counter in enumerate(counts):
        others = ((count, highest[gram]) for gram, count in counter.items())
        matched.append(sum(min(count, top[1] if top[2] == text else top[0]) for count, top in others))
    total = [counter.total() for counter in counts]
    return torch.tensor(matched, dtype=torch.float64), torch.tensor(total, dtype=torch.float64)


def _nearest(lengths: Sequence[int]) -> list[int]:
    """The length among the others that is nearest to each, the shorter of two."""
    numbers = Counter(lengths)
    return [
        min((o for o in numbers if o != own or numbers[own] > 1), key=lambda o: (abs(o - own), o))
        for own in lengths
    ]


def ngrams(text: Text, n: int) -> Iterator[Hashable]:
    """All runs of n tokens, in order."""
    sequence = text if isinstance(text, bytes) else tuple(text)
    return (sequence[i : i + n] for i in range(len(sequence) - n + 1))
