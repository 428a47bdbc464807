"""What a language model answers: conversations in the template that its run has learnt."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aigc_lab.data.chat import Chat, Message
from aigc_lab.data.samples import Texts
from aigc_lab.decoding import Sampling, write
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
        network, ends = self.generator.network, self.chat.ends
        prompts = [self.prompt(messages) for messages in conversations]
        with evaluating(self.generator):
            written = write(
                network,
                prompts,
                seeds=seeds,
                sampling=sampling,
                length=length,
                may_end=True,
                stopped=lambda symbols: symbols[-1] in ends,
            )
        return [self._text([symbol for symbol in symbols if symbol not in ends]) for symbols in written]

    def _text(self, symbols: list[int]) -> str:
        texts = self.generator.spec.decode(torch.tensor([symbols], dtype=torch.long))
        assert isinstance(texts, Texts)
        return texts.to_strings()[0]
