"""Questions and answers made by rule from what CPython knows of itself (embedded; no download)."""

import builtins
import hashlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from aigc_lab.data.instructions import Conversations, Named, said

LONGEST = 48
"""Characters of an answer; signatures such as `open`'s are left out."""


class Fact(NamedTuple):
    """What can be asked about a name in the words of its `relation`, a key of `WORDINGS`."""

    relation: str
    name: str
    answer: str


WORDINGS: Mapping[str, tuple[str, ...]] = {
    "title": (
        "What is the help topic {} about?",
        "Name the subject of the help topic {}.",
        "Which title does help('{}') have?",
        "Under {}, what does the help explain?",
        "The topic {}: what is its title?",
        "I look up {}. What do I read about?",
        "Title of the page {}?",
        "Tell me what help('{}') is headed.",
    ),
    "base": (
        "What is the base class of {}?",
        "Which class does {} inherit from?",
        "{} is a subclass of what?",
        "Name the parent of {}.",
        "From which class is {} derived?",
        "Which exception stands right above {}?",
        "class {} extends which class?",
        "Base of {}?",
    ),
    "signature": (
        "What are the arguments of {}?",
        "Which arguments does {} take?",
        "How is {} called?",
        "Give the signature of {}.",
        "{} has which parameters?",
        "Show me how to call {}.",
        "Parameters of {}?",
        "I want to use {}. What do I pass?",
    ),
}
"""The ways to ask for a fact."""


def facts() -> Iterator[Fact]:
    """The titles of pydoc's topics, the bases of built-in exceptions, the signatures of built-in functions."""
    from pydoc_data.topics import topics

    for name in sorted(topics):
        yield Fact("title", name, topics[name].strip().splitlines()[0])
    for name, thing in sorted(vars(builtins).items()):
        if isinstance(thing, type) and issubclass(thing, Exception):
            yield Fact("base", name, thing.__mro__[1].__name__)
        elif inspect.isbuiltin(thing) and not name.startswith("_"):
            try:
                signature = str(inspect.signature(thing))
            except ValueError:  # it has none
                continue
            yield Fact("signature", name, name + signature)


@dataclass(kw_only=True)
class PydocQuestions(Conversations):
    """Every fact is asked for in several ways. Some of them, not the same ones for each fact, are held out:
    whoever answers these has learnt the facts and the ways apart.

    Args:
        held_out: of the ways to ask for a fact; one at least.
    """

    def _name(self) -> str:
        return "pydoc_questions"

    def _conversations(self) -> list[Named]:
        return [
            Named([{"role": "user", "content": wording.format(fact.name)}, said(fact.answer)], fact.name)
            for fact in self._facts()
            for wording in WORDINGS[fact.relation]
        ]

    def _which(self) -> list[bool]:
        held_out = []
        for fact in self._facts():
            n = len(WORDINGS[fact.relation])
            n_held_out = max(1, round(self.held_out * n))
            first = hashlib.sha256("\0".join(fact).encode()).digest()[0]
            held_out += [(i - first) % n < n_held_out for i in range(n)]
        return held_out

    @staticmethod
    def _facts() -> list[Fact]:
        return [fact for fact in facts() if len(fact.answer) <= LONGEST]
