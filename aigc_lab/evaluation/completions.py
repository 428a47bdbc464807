"""The same prompts, from held-out text, continued by every generator that can: the condition that a text has to
match."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from aigc_lab.data.samples import Samples, Texts
from aigc_lab.data.spec import DataSpec
from aigc_lab.data.tokens import whole

N_PROMPTS = 128


@dataclass(frozen=True)
class Prompt:
    """The first quarter of a held-out passage, and how it really goes on."""

    given: bytes
    real: bytes


@dataclass(frozen=True)
class Completion:
    """A prompt, how it really goes on, and how a generator continues it for as many bytes."""

    given: bytes
    real: bytes
    generated: bytes


@runtime_checkable
class Continues(Protocol):
    """A generator that can go on from given symbols, as an autoregressive one can."""

    spec: DataSpec

    def continue_bytes(self, prompt_BP: Tensor, n_bytes: int, *, rng: torch.Generator) -> Tensor: ...


def prompts(held_out: Samples) -> list[Prompt]:
    """The beginnings of the first held-out passages, cut between characters; none for images."""
    if not isinstance(held_out, Texts):
        return []
    found = []
    for passage in held_out.passages[:N_PROMPTS]:
        given = passage[: len(passage) // 4].decode(errors="ignore").encode()
        if passage.startswith(given):  # not where the passage holds invalid bytes
            found.append(Prompt(given, passage.removeprefix(given)))
    return found


def complete(generator: object, prompts: Sequence[Prompt], rng: torch.Generator) -> list[Completion]:
    """What the generator makes of every prompt, in their order; nothing where it cannot continue."""
    if not isinstance(generator, Continues) or not prompts:
        return []
    given = generator.spec.encode(Texts([prompt.given for prompt in prompts]))
    groups: dict[tuple[int, int], list[int]] = {}  # of equal lengths, which are continued together
    for i, prompt in enumerate(prompts):
        groups.setdefault((len(given[i]), len(prompt.real)), []).append(i)
    found: dict[int, bytes] = {}
    for (n_given, n_real), group in groups.items():
        written = generator.continue_bytes(torch.stack([given[i] for i in group]), n_real, rng=rng)
        texts = generator.spec.decode(written[:, n_given:])
        assert isinstance(texts, Texts)
        found |= zip(group, (whole(text[:n_real]) for text in texts.passages), strict=True)
    return [Completion(prompt.given, prompt.real, found[i]) for i, prompt in enumerate(prompts)]
