"""Any language model of the lab as a model of `lm_eval` (EleutherAI's language model evaluation harness).

    lm_eval.simple_evaluate(model=LabModel("runs/text/pydoc/first"), tasks=["lambada_openai"])

The only module that imports lm_eval, a dependency of development. What is measured is the harness's: a request
longer than the context loses its beginning, and a long document is read in disjoint windows, each behind one
symbol of the window before, where the lab's own likelihood gives every symbol half a context.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lm_eval import utils
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import normalize_gen_kwargs
from torch.nn.utils.rnn import pad_sequence

from aigc_lab.data.samples import Texts
from aigc_lab.data.stream import fold
from aigc_lab.decoding import Sampling, write
from aigc_lab.errors import UserError
from aigc_lab.generators import Autoregressive, load
from aigc_lab.sampling import cut

SAMPLING = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
OFF = {"top_k": 0, "num_beams": 1}
"""How tasks say that they do without an option."""


class LabModel(TemplateLM):
    """A finished run. Every text begins with the start symbol. log p is over the symbols of the data, that a text
    goes on, as in `Autoregressive.log_likelihood`; a run that has learnt where a text ends (`Autoregressive.ends`)
    may end it instead, and then log p is over that symbol too.

    Args:
        run: its directory.
        batch_size: requests that are read at once; the numbers do not depend on it.
        seed: of what is drawn, where a task samples.

    Raises:
        UserError: it is not finished, or no language model of texts.
    """

    def __init__(self, run: str | Path, *, batch_size: int = 32, seed: int = 0) -> None:
        super().__init__()
        generator = load(run)
        if not isinstance(generator, Autoregressive) or generator.spec.tokenizer is None:
            raise UserError(f"{run}: is no language model of texts")
        self.generator, self.symbols = generator, generator.spec.tokenizer
        self.batch_size, self.seed = batch_size, seed
        self.n_symbols = generator.network.vocab_size + (generator.network.start in generator.ends)

    @property
    def eot_token_id(self) -> int:
        """The start symbol, which is also what ends a text."""
        return self.generator.network.start

    @property
    def max_length(self) -> int:
        return self.generator.network.context

    @property
    def tokenizer_name(self) -> str:
        return self.symbols.hash

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """
        Raises:
            ValueError: the text cannot be written in the run's symbols.
        """
        start = [] if add_special_tokens is False else [self.eot_token_id]
        return [*start, *self.symbols.encode(string.encode()).tolist()]

    @torch.inference_mode()
    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        """Σ log p of each continuation, in nats, and whether each of its symbols is the likeliest.

        Raises:
            ValueError: a continuation is empty, or longer than the context.
        """
        network, found = self.generator.network, [(0.0, False)] * len(requests)
        for _, context, continuation in requests:
            if not context or not 0 < len(continuation) <= self.max_length:
                raise ValueError(
                    f"a continuation of {len(continuation)} symbols in a context of {self.max_length}"
                )
        order = sorted(range(len(requests)), key=lambda i: -len(requests[i][1]) - len(requests[i][2]))
        for begin in range(0, len(order), self.batch_size):
            chosen = order[begin : begin + self.batch_size]
            texts = [torch.tensor((requests[i][1] + requests[i][2])[-self.max_length - 1 :]) for i in chosen]
            read = pad_sequence([text[:-1] for text in texts], batch_first=True)  # behind what counts
            log_p = network(read.to(network.device))[..., : self.n_symbols].float().log_softmax(-1).cpu()
            for i, text, rows in zip(chosen, texts, log_p, strict=True):
                n = len(requests[i][2])
                scored, targets = rows[len(text) - 1 - n : len(text) - 1], text[-n:]
                total = scored.double().gather(1, targets[:, None]).sum()
                found[i] = (float(total), bool((scored.argmax(-1) == targets).all()))
        return found

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Σ log p of whole documents, in nats."""
        totals = []
        for request in requests:
            (document,) = request.args
            windows = utils.get_rolling_token_windows(
                self.tok_encode(document, add_special_tokens=False), self.eot_token_id, self.max_length, 1
            )
            pairs = [(None, *utils.make_disjoint_window(window)) for window in windows]
            totals.append(sum(log_p for log_p, _ in self._loglikelihood_tokens(pairs)))
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """What is written behind each context, up to the first of the strings to stop at.

        Raises:
            ValueError: there is no room for a context, or a task asks for what the lab cannot do.
        """
        return [self._generate(request.args[0], request.args[1], i) for i, request in enumerate(requests)]

    def _generate(self, context: str, options: dict[str, Any], number: int) -> str:
        given = normalize_gen_kwargs({name: x for name, x in options.items() if name not in OFF or x != OFF[name]})
        stop, length = [text for text in given.pop("until", []) if text], given.pop("max_gen_toks")
        sampling = {name: given.pop(name) for name in SAMPLING if given.get(name) is not None}
        sampling.setdefault("temperature", 1.0 if given["do_sample"] else 0.0)
        del given["do_sample"]
        if given := {name: value for name, value in given.items() if value is not None}:
            raise ValueError(f"the lab does not know these options of generation: {', '.join(given)}")
        if (room := self.max_length - length) <= 0:
            raise ValueError(f"max_gen_toks={length} leaves no room in a context of {self.max_length}")
        prompt = torch.tensor(self.tok_encode(context)[-room:])
        prompt = prompt[prompt != self.eot_token_id]  # which is put before it anyway
        (written,) = write(
            self.generator.network,
            [prompt],
            seeds=[fold(self.seed, number)],
            sampling=Sampling(**sampling),
            length=length,
            ends=self.generator.ends,
            stopped=partial(self._stopped, stop),
        )
        return cut(self._text(written), stop)

    def _stopped(self, stop: Sequence[str], symbols: list[int]) -> bool:
        return any(text in self._text(symbols) for text in stop)

    def _text(self, symbols: list[int]) -> str:
        texts = self.generator.spec.decode(torch.tensor([symbols], dtype=torch.long))
        assert isinstance(texts, Texts)
        return texts.to_strings()[0]
