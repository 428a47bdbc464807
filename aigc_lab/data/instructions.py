"""Conversations to learn from: only the responses are predicted, each with its end."""

import warnings
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from aigc_lab.data.chat import Chat, ChatFormat, Message, Written, compile_template
from aigc_lab.data.corpora import Corpus, InMemory
from aigc_lab.data.jsonl import asked, conversation, records
from aigc_lab.data.packing import Batch, Packed
from aigc_lab.data.spec import Split
from aigc_lab.data.text import BLANK_LINE, TextData
from aigc_lab.data.token_files import Tokens
from aigc_lab.data.tokenizing import Tokenizing, WithChat
from aigc_lab.data.tokens import Bytes
from aigc_lab.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Template:
    """The configuration group `data/template`: how conversations are written.

    Args:
        text: jinja2; see `aigc_lab.data.chat.ChatFormat`.
        own: take the tokenizer's own template instead, where it brings one.

    Raises:
        ValueError: it cannot be read, or leaves out what is said.
    """

    text: str
    own: bool

    def __post_init__(self) -> None:
        compile_template(self.text)

    def form(self, tokenizing: Tokenizing) -> ChatFormat:
        """What conversations are written in, with the symbols that a tokenizing chooses."""
        found = tokenizing.chat() if self.own and isinstance(tokenizing, WithChat) else None
        return found or ChatFormat(self.text)


class Named(NamedTuple):
    """A conversation that ends with a response, and what it is called in messages to the user."""

    messages: Sequence[Message]
    where: str


class Coded(NamedTuple):
    """Conversations one behind the other, and which of their symbols are learnt, bool [n]."""

    tokens: Tokens
    learnt: np.ndarray

    def packed(self, length: int, *, together: bool) -> Packed:
        """In windows of `length` symbols."""
        return Packed(self.tokens, length, learnt=self.learnt, together=together)


@dataclass(kw_only=True)
class Conversations(TextData):
    """Conversations, held in memory. Of one that is longer than the context, the beginning is left out.

    Args:
        template: how they are written.
    """

    template: Template

    @abstractmethod
    def _conversations(self) -> list[Named]: ...

    def _name(self) -> str:
        raise NotImplementedError

    def _which(self) -> float | Sequence[bool]:
        """The share that is held out, or of each conversation whether it is."""
        return self.held_out

    @cached_property
    def conversations(self) -> list[Named]:
        """All, in the order in which they are given."""
        return self._conversations()

    def split(self, split: Split) -> list[Named]:
        """Those of a split."""
        return [self.conversations[i] for i in self._corpus.numbers(split)]

    @cached_property
    def form(self) -> ChatFormat:
        """How they are written."""
        return self.template.form(self.tokenizer)

    @cached_property
    def chat(self) -> Chat:
        """The same in the symbols of the tokenizer."""
        return Chat(self._tokenizer, self.form)

    def _read(self) -> Corpus:
        with blaming("data/template"):
            chat = Chat(Bytes(), self.form)
        texts = []
        for messages, where in self.conversations:
            with blaming(where):
                texts.append(chat.plain(messages))
        documents = InMemory(texts)
        return Corpus.of(self._name(), documents, separator=BLANK_LINE.encode(), held_out=self._which())

    def _coded(self, split: Split) -> Coded:
        written = []
        for messages, where in self.split(split):
            with blaming(where):
                written.append(self.chat.encode(messages))
            require_room(last_response(written[-1]), self.context, where)
        return join(written, self.context)

    @cached_property
    def _coded_splits(self) -> dict[Split, Coded]:
        return {"train": self._coded("train"), "held_out": self._coded("held_out")}

    def _tokens(self, split: Split) -> Tokens:
        return self._coded_splits[split].tokens

    @cached_property
    def _packed(self) -> dict[Split, Packed]:
        return {
            split: coded.packed(self.context, together=self.packing) for split, coded in self._coded_splits.items()
        }

    @property
    def n_items(self) -> int:
        """Windows in an epoch."""
        return len(self._packed["train"])

    def gather(self, epoch: Tensor, item: Tensor) -> Batch:
        """Training windows, always the same ones."""
        return self._packed["train"].gather(item)

    @property
    def n_held_out_items(self) -> int:
        return len(self._packed["held_out"])

    def gather_held_out(self, item: Tensor) -> Batch:
        """Held-out windows."""
        return self._packed["held_out"].gather(item)


@dataclass(kw_only=True)
class Instructions(Conversations):
    """A JSONL file of the user's: lines of `prompt` and `response`, with a `system` message or without, or of
    `messages`.

    Args:
        path: the file.
        name: of the data in results; null: the file's.
    """

    path: str
    name: str | None

    def _conversations(self) -> list[Named]:
        """
        Raises:
            UserError: there is no such file, it is empty, or a line is none of these.
        """
        return [Named(conversation(record), record.where) for record in records(self.path)]

    def _name(self) -> str:
        return self.name or Path(self.path).stem


@dataclass(kw_only=True)
class Preferences(Conversations):
    """A JSONL file of the user's: lines of `prompt`, `chosen` and `rejected`. The prompt is a text or a list of
    messages.

    An item is a pair: of the windows [2 b, context] of a batch, row 2 i holds a chosen response and row 2 i + 1
    the rejected one, both behind the same prompt, of which the beginning is left out where it has no room. As
    texts, the data is the chosen conversations.

    Args:
        path: the file.
        name: of the data in results; null: the file's.

    Raises:
        ValueError: packing is asked for; a response has a window to itself.
    """

    path: str
    name: str | None
    pairs: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.packing:
            raise ValueError("packing=true: pairs of responses are not packed; leave it out")

    def _name(self) -> str:
        return self.name or Path(self.path).stem

    @cached_property
    def _pairs(self) -> list[tuple[list[Message], str, str, str]]:
        """Prompt, chosen and rejected response, and where they stand."""
        found = []
        for record in records(self.path):
            chosen, rejected = record.text("chosen"), record.text("rejected")
            if chosen == rejected:
                raise UserError(f"{record.where}: chosen and rejected are the same")
            found.append((asked(record), chosen, rejected, record.where))
        return found

    def _conversations(self) -> list[Named]:
        """
        Raises:
            UserError: there is no such file, it is empty, or a line is no pair.
        """
        return [Named([*prompt, said(chosen)], where) for prompt, chosen, _, where in self._pairs]

    def _coded(self, split: Split) -> Coded:
        written, n_clipped = [], 0
        for i in self._corpus.numbers(split):
            prompt, *responses, where = self._pairs[i]
            with blaming(where):
                before = self.chat.encode(prompt, prompt=True).symbols
                pair = [self.chat.encode([*prompt, said(text)]) for text in responses]
            after = [whole.symbols[len(before) :] for whole in pair]
            room = self.context - max(map(len, after))
            n_clipped += len(before) > room
            for response in after:
                require_room(response, self.context, where)
                symbols = torch.cat([before[len(before) - min(len(before), room) :], response])
                learnt = torch.arange(len(symbols)) >= len(symbols) - len(response)
                written.append(Written(symbols, learnt))
        tell_clipped(n_clipped, len(written) // 2, self.context)
        return join(written, self.context)

    @property
    def n_items(self) -> int:
        """Pairs."""
        return len(self._packed["train"]) // 2

    def gather(self, epoch: Tensor, item: Tensor) -> Batch:
        """Pairs of training windows, [2 b, context]."""
        return self._packed["train"].gather(_rows(item))

    @property
    def n_held_out_items(self) -> int:
        return len(self._packed["held_out"]) // 2

    def gather_held_out(self, item: Tensor) -> Batch:
        """Pairs of held-out windows."""
        return self._packed["held_out"].gather(_rows(item))


def said(response: str) -> Message:
    """A response as a message."""
    return {"role": "assistant", "content": response}


def join(written: Sequence[Written], context: int) -> Coded:
    """Conversations one behind the other, each without the beginning that has no room in the context."""
    tell_clipped(sum(len(symbols) > context for symbols, _ in written), len(written), context)
    symbols = np.concatenate([np.zeros(0, np.int64), *(symbols[-context:].numpy() for symbols, _ in written)])
    learnt = np.concatenate([np.zeros(0, bool), *(learnt[-context:].numpy() for _, learnt in written)])
    starts = np.cumsum([0, *(min(len(symbols), context) for symbols, _ in written)])
    return Coded(Tokens(symbols, starts), learnt)


def tell_clipped(n: int, total: int, context: int) -> None:
    """Warn of conversations whose beginning is left out."""
    if n:
        warnings.warn(
            f"data: {n} of {total} conversations are longer than data.context={context}; their beginnings are "
            "left out",
            stacklevel=2,
        )


def last_response(written: Written) -> Tensor:
    """Its symbols, the end included."""
    before = (~written.learnt).nonzero()
    return written.symbols[int(before[-1]) + 1 if len(before) else 0 :]


def require_room(response: Tensor, context: int, where: str) -> None:
    """
    Raises:
        UserError: a response is longer than the context.
    """
    if len(response) > context:
        raise UserError(
            f"{where}: the response has {len(response)} symbols with its end, more than data.context={context}"
        )


@contextmanager
def blaming(where: str) -> Iterator[None]:
    """A conversation that cannot be written is the user's mistake, in this line."""
    try:
        yield
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None


def _rows(pair: Tensor) -> Tensor:
    """The rows of pairs [b]: [2 b]."""
    return torch.stack([2 * pair, 2 * pair + 1], 1).flatten()
