"""Measures of models of sequences: the likelihood of what was held out, and the form of what they write."""

import ast
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from aigc_lab.data.samples import Texts
from aigc_lab.errors import UserError
from aigc_lab.generators import Autoregressive
from aigc_lab.reproduce.rows import rows_of_samples
from aigc_lab.reproduce.trial import Seen, Trial
from aigc_lab.types import PositiveInt

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class HeldOutLikelihood:
    """Of the whole held-out split, every symbol scored once: `bits_per_byte`, `nats_per_symbol`, `nats_per_item`
    (of an image, or a document), `perplexity` (of a symbol), and `n_symbols`.

    Documents are read from their first symbol, which has nothing but the start before it; longer ones than the
    context in windows that advance by half of it, so every other symbol has at least half a context before it.
    """

    def __call__(self, trial: Trial) -> dict[str, float]:
        """
        Raises:
            UserError: the run is no autoregressive model.
        """
        generator, items = _model(trial), trial.dataset.likelihood_items("held_out")
        found = generator.log_likelihood(items, rng=trial.rng())
        n_symbols = sum(len(symbols) for symbols in generator.spec.encode(items))
        nats = -float(found.nats.sum()) / n_symbols
        return {
            "bits_per_byte": found.bits_per_byte(),
            "nats_per_symbol": nats,
            "nats_per_item": nats * n_symbols / len(items),
            "perplexity": float(torch.tensor(nats).exp()),
            "n_symbols": n_symbols,
        }

    def figure(self, seen: Sequence[Seen]) -> "Figure | None":
        return rows_of_samples(seen)


@dataclass(frozen=True, kw_only=True)
class ParsedFunctions:
    """How many functions that the model begins with `def` are Python: `parsed`, and of held-out functions that are
    cut in the same way `parsed_real`, which is the most to be had.

    A function ends before the first line that begins at its margin, or after `length` bytes.

    Args:
        n: functions of each kind.
        length: bytes behind `def`, at most.
    """

    n: PositiveInt
    length: PositiveInt

    def __call__(self, trial: Trial) -> dict[str, float]:
        """
        Raises:
            UserError: the run is no autoregressive model of texts.
        """
        written = _continuations(trial, "\n\n\ndef ", n=self.n, n_bytes=self.length)
        real = trial.dataset.likelihood_items("held_out")
        assert isinstance(real, Texts)
        text = b"\n".join(real.passages).decode(errors="replace")
        begins = [found.end() for found in re.finditer(r"^def ", text, re.MULTILINE)]
        chosen = torch.randperm(len(begins), generator=trial.rng())[: self.n].tolist()
        functions = [text[begins[i] : begins[i] + self.length] for i in chosen]
        return {"parsed": share_parsed(written), "parsed_real": share_parsed(functions)}


def share_parsed(functions: Sequence[str]) -> float:
    """Of functions without their first `def `, and with what follows them."""
    return sum(_is_python("def " + re.split(r"\n(?=\S)", function)[0]) for function in functions) / len(functions)


def _is_python(source: str) -> bool:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError):
        return False
    return True


@dataclass(frozen=True, kw_only=True)
class RegulatedVerse:
    """How many poems have the form of regulated verse: `verse`, of held-out poems `verse_real`, and the first
    divided by the second, `verse_of_real`; `lines`, the share of their lines that are two equal halves of five or
    seven characters, and `lines_real`.

    Args:
        n: poems of each kind.
        length: bytes of a poem, at most.
    """

    n: PositiveInt
    length: PositiveInt

    def __call__(self, trial: Trial) -> dict[str, float]:
        """
        Raises:
            UserError: the run is no autoregressive model of texts.
        """
        written = _continuations(trial, "\n\n", n=self.n, n_bytes=self.length)
        real = trial.dataset.likelihood_items("held_out")
        assert isinstance(real, Texts)
        chosen = torch.randperm(len(real), generator=trial.rng())[: self.n]
        ours = [poem.split("\n\n")[0] for poem in written]
        theirs = real[chosen].to_strings()
        verse, real_verse = (sum(map(is_regulated, poems)) / len(poems) for poems in (ours, theirs))
        return {
            "verse": verse,
            "verse_real": real_verse,
            "verse_of_real": verse / real_verse if real_verse else math.nan,
            "lines": regular_lines(ours),
            "lines_real": regular_lines(theirs),
        }


def is_regulated(poem: str) -> bool:
    """Whether a title and a poet are followed by two or four lines of 5 + 5 characters each, or of 7 + 7.

    That is the outer form of the quatrain (絕句) and of the regulated octave (律詩); tones and rhymes, which a
    rime table would be needed for, are not looked at.
    """
    body = poem.strip("\n").split("\n")[2:]
    sizes = {_half(line) for line in body}
    return len(body) in (2, 4) and len(sizes) == 1 and None not in sizes


def regular_lines(poems: Sequence[str]) -> float:
    """The share of all lines below title and poet that are two halves of 5 or of 7 characters."""
    halves = [_half(line) for poem in poems for line in poem.strip("\n").split("\n")[2:]]
    return sum(half is not None for half in halves) / max(1, len(halves))


def _half(line: str) -> int | None:
    """5 or 7, the characters in each half of a line."""
    found = re.fullmatch(r"([^，。？！、；]+)[，？！；]([^，。？！、；]+)[。？！；]", line)
    sizes = {len(half) for half in found.groups()} if found else set()
    return sizes.pop() if len(sizes) == 1 and sizes <= {5, 7} else None


def _model(trial: Trial) -> Autoregressive:
    generator = trial.generator
    if not isinstance(generator, Autoregressive):
        raise UserError(f"claims: {type(generator).__name__} is no autoregressive model")
    return generator


def _continuations(trial: Trial, prompt: str, *, n: int, n_bytes: int) -> list[str]:
    """What the model writes behind the prompt, of its own law: about n_bytes each."""
    generator = _model(trial)
    tokenizer = generator.spec.tokenizer
    if tokenizer is None:
        raise UserError("claims: the model writes no texts")
    symbols = torch.as_tensor(tokenizer.encode(prompt.encode())).long()
    written = generator.continue_bytes(symbols.expand(n, -1), n_bytes, rng=trial.rng())[:, len(symbols) :]
    return [tokenizer.decode(row)[:n_bytes].decode(errors="ignore") for row in written]
