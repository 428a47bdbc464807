"""Conversations as symbols: a template says how they are written, and which symbols are responses.

A message is a mapping with `role` (system, user or assistant) and `content`. Templates are those of Hugging Face's
tokenizers, in jinja2's sandbox. What a message contains is text, also where it is spelt like a special symbol:
only the template can write one.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from torch import Tensor

from aigc_lab.data.tokens import Tokenizer

Message = Mapping[str, str]

ROLES = ("system", "user", "assistant")

PROBE: tuple[Message, ...] = tuple({"role": role, "content": f"x{role}x"} for role in ROLES[1:])
"""A conversation of which every template writes all that is said."""

GUARD = "\ufdd0"
"""A noncharacter that parts the spelling of a special symbol in a message while the template is filled in."""


@dataclass(frozen=True)
class ChatFormat:
    """How conversations are written; part of the data description, like the tokenizer.

    Attributes:
        template: jinja2, over `messages`, `add_generation_prompt`, `bos_token` and `eos_token`.
        begin: what the template calls the symbol that begins a text; the lab puts it there anyway.
        end: what it calls the one that ends a text: the lab's start symbol, which may be predicted.
    """

    template: str
    begin: str = ""
    end: str = "<|endoftext|>"

    def special(self, tokenizer: Tokenizer) -> dict[str, int]:
        """The symbols that only the template can write, by what it calls them."""
        found = {**tokenizer.special, self.end: tokenizer.vocab_size}
        found.pop("", None)
        return found

    def ends(self, tokenizer: Tokenizer) -> frozenset[int]:
        """The symbols at one of which a response ends: the start symbol, and every special one."""
        return frozenset([*self.special(tokenizer).values(), tokenizer.vocab_size])


class Written(NamedTuple):
    """A conversation in symbols.

    Attributes:
        symbols: int64 [L].
        learnt: bool [L]: those of the responses, each with the symbol that ends it.
    """

    symbols: Tensor
    learnt: Tensor


class Chat:
    """A format in the symbols of a tokenizer."""

    def __init__(self, tokenizer: Tokenizer, form: ChatFormat) -> None:
        """
        Raises:
            ValueError: the template cannot be read, or leaves out what is said.
        """
        self.tokenizer, self.form = tokenizer, form
        self._template = compile_template(form.template)
        self._special, self.ends = form.special(tokenizer), form.ends(tokenizer)

    def render(self, messages: Sequence[Message], *, prompt: bool) -> str:
        """The template filled in; with `prompt` up to where a response begins.

        Raises:
            ValueError: the template refuses the messages.
        """
        guarded = [{**m, "content": self._guard(m["content"])} for m in messages]
        form = self.form
        try:
            return self._template.render(
                messages=guarded, add_generation_prompt=prompt, bos_token=form.begin, eos_token=form.end
            )
        except Exception as error:  # whatever the user's template does
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ValueError(f"the chat template refuses the messages ({reason})") from None

    def plain(self, messages: Sequence[Message]) -> str:
        """The conversation as a text without special symbols."""
        parts = self._parts(self.render(messages, prompt=False))
        return "".join(part for part, symbol in parts if symbol is None)

    def encode(self, messages: Sequence[Message], *, prompt: bool = False) -> Written:
        """A conversation up to the end of its last response, or with `prompt` up to where the next one begins.

        A response is encoded on its own, as it is when it is written.

        Raises:
            ValueError: it cannot be written in these symbols, or one cannot tell which of them are a response.
        """
        done, symbols, learnt = "", list[int](), list[bool]()

        def read(until: str, *, response: bool) -> None:
            nonlocal done
            if not until.startswith(done):
                raise ValueError("the chat template changes what stands before a response")
            found = list(self._symbols(until[len(done) :], at_start=not done))
            n_learnt = 0
            if response:
                ends = [i for i, symbol in enumerate(found) if symbol in self.ends]
                if not ends:  # a template without an end: it is learnt all the same
                    found.append(self.tokenizer.vocab_size)
                n_learnt = ends[0] + 1 if ends else len(found)
            symbols.extend(found)
            learnt.extend(i < n_learnt for i in range(len(found)))
            done = until

        for i, message in enumerate(messages):
            if message["role"] == "assistant":
                read(self.render(messages[:i], prompt=True), response=False)
                read(self.render(messages[: i + 1], prompt=False), response=True)
        if prompt:
            read(self.render(messages, prompt=True), response=False)
        else:
            last = max((i for i, flag in enumerate(learnt) if flag), default=-1)
            del symbols[last + 1 :], learnt[last + 1 :]
        return Written(torch.tensor(symbols, dtype=torch.long), torch.tensor(learnt, dtype=torch.bool))

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        names = sorted(self._special, key=len, reverse=True)
        return re.compile("(" + ("|".join(map(re.escape, names)) or "(?!)") + ")")  # without names: nothing

    def _guard(self, content: str) -> str:
        return self._pattern.sub(lambda found: found[0][0] + GUARD + found[0][1:], content)

    def _parts(self, text: str) -> Iterator[tuple[str, int | None]]:
        """The text in pieces: between special symbols, and these, with their numbers."""
        for part in self._pattern.split(text):
            if part:
                yield part.replace(GUARD, ""), self._special.get(part)

    def _symbols(self, text: str, *, at_start: bool) -> Iterator[int]:
        if at_start and self.form.begin:
            text = text.removeprefix(self.form.begin)
        for part, symbol in self._parts(text):
            if symbol is None:
                yield from self.tokenizer.encode(part.encode()).tolist()
            else:
                yield symbol


def compile_template(source: str) -> Any:
    """A template as `transformers` reads it, in a sandbox.

    Raises:
        ValueError: it cannot be read, or leaves out what is said: what it does not find in a message is empty.
    """
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = _refuse
    try:
        template = environment.from_string(source)
    except TemplateError as error:
        raise ValueError(f"the chat template cannot be read ({error})") from None
    try:
        text = template.render(messages=PROBE, add_generation_prompt=False, bos_token="", eos_token="")
    except Exception:  # it has a place for other messages only, and says so when it is filled in
        return template
    if left_out := [message["role"] for message in PROBE if message["content"] not in text]:
        raise ValueError(
            f"the chat template leaves out what the {left_out[0]} says; a message has the fields role and content"
        )
    return template


def _refuse(reason: str) -> None:
    """How a template says that it has no place for the messages."""
    raise TemplateError(reason)
