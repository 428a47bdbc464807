"""What a language model answers: conversations in the template that its run has learnt."""

import codecs
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from aigc_lab.data.chat import Chat, Message
from aigc_lab.data.samples import Texts
from aigc_lab.data.stream import fold
from aigc_lab.decoding import Sampling, stream, write
from aigc_lab.errors import UserError
from aigc_lab.generators import Autoregressive, NeuralGenerator, evaluating


@dataclass(frozen=True)
class Speaker:
    """A generator that knows how conversations are written."""

    generator: Autoregressive
    chat: Chat

    @classmethod
    def of(cls, generator: NeuralGenerator, name: str) -> "Speaker":
        """
        Args:
            name: of its run, for the user.

        Raises:
            UserError: it has no chat template.
        """
        spec = generator.spec
        if not isinstance(generator, Autoregressive) or spec.tokenizer is None:
            raise UserError(f"{name}: is no language model of texts")
        if spec.chat is None:
            raise UserError(
                f"{name}: has learnt no chat template; train it further on conversations: aigc train "
                f"data=instructions data.path=FILE.jsonl data/tokenizer=run model=finetune model.run={name}"
            )
        try:
            return cls(generator, Chat(spec.tokenizer, spec.chat))
        except ValueError as error:
            raise UserError(f"{name}: {error}") from None

    @property
    def half(self) -> int:
        """Half of the context: how long a response may be where nothing else is said."""
        return self.generator.network.context // 2

    def prompt(self, messages: Sequence[Message]) -> Tensor:
        """The symbols up to where a response begins.

        Raises:
            ValueError: the messages cannot be written in the run's symbols, or the template refuses them.
        """
        return self.chat.encode(messages, prompt=True).symbols

    def respond(
        self, conversations: Sequence[Sequence[Message]], *, seeds: Sequence[int], sampling: Sampling, length: int
    ) -> list[str]:
        """The response to each, of at most `length` symbols.

        Raises:
            ValueError: as for `prompt`.
        """
        prompts = [self.prompt(messages) for messages in conversations]
        with evaluating(self.generator):
            written = write(
                self.generator.network,
                prompts,
                seeds=seeds,
                sampling=sampling,
                length=length,
                ends=self.chat.ends,
            )
        return [self._text(symbols) for symbols in written]

    def streamed(
        self, messages: Sequence[Message], *, seed: int, sampling: Sampling, length: int
    ) -> Iterator[str]:
        """The response, in pieces as it is written.

        Raises:
            ValueError: as for `prompt`.
        """
        tokenizer, ends = self.chat.tokenizer, self.chat.ends
        prompts = [self.prompt(messages)]
        characters = codecs.getincrementaldecoder("utf-8")("replace")
        with evaluating(self.generator):
            following = stream(
                self.generator.network, prompts, seeds=[seed], sampling=sampling, length=length, ends=ends
            )
            for symbols in following:
                if (symbol := int(symbols)) in ends:
                    break
                yield characters.decode(tokenizer.pieces[symbol])
        yield characters.decode(b"", final=True)

    def unread(self, messages: Sequence[Message]) -> int:
        """How many symbols of the prompt stand before what the network can read at once.

        Raises:
            ValueError: as for `prompt`.
        """
        return max(0, len(self.prompt(messages)) + 1 - self.generator.network.context)

    def fitting(self, messages: Sequence[Message], length: int) -> list[Message]:
        """The system message and the newest others behind which a response of `length` symbols has room in the
        context; the last message at least. A response may take half of the context for itself.

        Raises:
            ValueError: as for `prompt`.
        """
        room = self.generator.network.context - 1 - min(length, self.half)
        system = [m for m in messages[:1] if m["role"] == "system"]
        others = list(messages[len(system) :])
        while len(others) > 1 and len(self.prompt([*system, *others])) > room:
            del others[: 2 if len(others) > 2 else 1]  # a question with its answer
        return [*system, *others]

    def _text(self, symbols: list[int]) -> str:
        texts = self.generator.spec.decode(torch.tensor([symbols], dtype=torch.long))
        assert isinstance(texts, Texts)
        return texts.to_strings()[0]


@dataclass
class Conversation:
    """Answers line after line, each in the light of those before.

    Args:
        system: a message that stands before all others.
        length: symbols of a response at most.
        show: takes a response, piece by piece.
        tell: takes what the user should know besides.
    """

    speaker: Speaker
    system: str | None
    seed: int
    sampling: Sampling
    length: int
    show: Callable[[str], None]
    tell: Callable[[str], None]
    history: list[Message] = field(init=False)

    def __post_init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self.history = [{"role": "system", "content": self.system}] if self.system else []

    def read(self, lines: Iterable[str]) -> None:
        """Until the lines end, or one says `/quit`; at `/reset` the conversation begins anew."""
        for n, line in enumerate(lines):
            asked = line.rstrip("\n")
            if asked == "/quit":
                return
            if asked == "/reset":
                self.forget()
                self.tell("the conversation begins anew")
            elif asked.strip():
                try:
                    self.answer(asked, fold(self.seed, n))
                except ValueError as error:
                    self.tell(str(error))

    def answer(self, asked: str, seed: int) -> None:
        """Show a response and remember it, and what fits into the context of what was said before.

        Raises:
            ValueError: what was asked is no text, or cannot be written in the run's symbols.
        """
        try:
            asked.encode()
        except UnicodeEncodeError:
            raise ValueError("this line is not UTF-8 text") from None
        messages: list[Message] = [*self.history, {"role": "user", "content": asked}]
        read = self.speaker.fitting(messages, self.length)
        if left_out := len(messages) - len(read):
            context = self.speaker.generator.network.context
            self.tell(f"the context of {context} symbols is full: the oldest {left_out} messages are forgotten")
        if unread := self.speaker.unread(read):
            self.tell(f"this is longer than what is read at once: its first {unread} symbols are not seen")
        pieces = []
        for piece in self.speaker.streamed(read, seed=seed, sampling=self.sampling, length=self.length):
            self.show(piece)
            pieces.append(piece)
        self.show("\n")
        self.history = [*read, {"role": "assistant", "content": "".join(pieces)}]
