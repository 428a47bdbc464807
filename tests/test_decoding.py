"""Decoding against `transformers`, on the same weights, and against the definitions."""

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from aigc_lab.decoding import Sampling, beam_search, invert, keep_nucleus, penalise, write
from aigc_lab.huggingface import to_transformers
from aigc_lab.nets.transformer import Transformer

GPT2 = {"norm": "layer", "feed_forward": "gelu", "qk_norm": False, "rotary": False, "position_embedding": True}
LLAMA = {"feed_forward": "swiglu", "qk_norm": False, "n_kv_heads": 2}
OPTIONS = {
    "gpt2": {**GPT2, "bias": True, "tied": True},
    "gpt2 without biases": GPT2,
    "llama": LLAMA,
    "qwen3": {**LLAMA, "qk_norm": True, "tied": True},
    "mistral": {**LLAMA, "window": 5},
}


def random_network(**options: Any) -> Transformer:
    torch.manual_seed(0)
    network = Transformer(shape=(24,), vocab_size=11, width=16, n_layers=2, n_heads=4, **options)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return network.eval()


def theirs(network: Transformer) -> PreTrainedModel:
    config, tensors = to_transformers(network)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config)).eval()
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    assert not unexpected and set(missing) <= ({"lm_head.weight"} if network.head is None else set())
    return model


@pytest.mark.parametrize("name", OPTIONS)
def test_logits_are_those_of_transformers(name: str) -> None:
    network = random_network(**OPTIONS[name])
    x = torch.randint(12, (3, 24))
    with torch.no_grad():
        torch.testing.assert_close(network(x), theirs(network)(x).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {**GPT2, "rotary": True}, {**LLAMA, "qk_norm": True, "window": 3}])
def test_what_no_layout_has_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no layout of transformers has these options"):
        to_transformers(random_network(**options))


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def pair(request: pytest.FixtureRequest) -> tuple[Transformer, PreTrainedModel]:
    network = random_network(**OPTIONS[request.param])
    return network, theirs(network)


def generated(model: PreTrainedModel, network: Transformer, prompt: Tensor, **options: Any) -> list[int]:
    """What `generate` writes behind the start symbol and the prompt, up to the end."""
    begin = torch.cat([torch.tensor([network.start]), prompt])[None]
    out = model.generate(begin, attention_mask=torch.ones_like(begin), pad_token_id=network.start, **options)
    written = out[0, begin.shape[1] :].tolist()
    return list(itertools.takewhile(lambda symbol: symbol != network.start, written))


PROMPTS = [torch.tensor(p, dtype=torch.long) for p in ([], [3], [1, 2, 3, 4, 5], [7, 7, 7])]


@pytest.mark.parametrize("penalty", [1.0, 1.7])
def test_greedy_is_that_of_transformers(pair: tuple[Transformer, PreTrainedModel], penalty: float) -> None:
    network, model = pair
    sampling = Sampling(temperature=0, repetition_penalty=penalty)
    ends = [network.start] if penalty == 1 else []  # theirs counts the start symbol as a repetition
    found = write(network, PROMPTS, seeds=[0] * 4, sampling=sampling, length=15, ends=ends)
    for prompt, text in zip(PROMPTS, found, strict=True):
        suppressed = None if ends else [network.start]
        options = {"do_sample": False, "max_new_tokens": 15, "suppress_tokens": suppressed}
        expected = generated(model, network, prompt, repetition_penalty=penalty, **options)
        assert text == expected


@pytest.mark.parametrize(("n_beams", "length_penalty"), [(2, 1.0), (5, 1.0), (3, 0.0), (4, 2.0)])
def test_beam_search_is_that_of_transformers(
    pair: tuple[Transformer, PreTrainedModel], n_beams: int, length_penalty: float
) -> None:
    network, model = pair
    for prompt in PROMPTS:
        options = {"length_penalty": length_penalty, "ends": [network.start]}
        ours = beam_search(network, prompt, n_beams=n_beams, length=12, **options)
        expected = generated(
            model,
            network,
            prompt,
            do_sample=False,
            num_beams=n_beams,
            length_penalty=length_penalty,
            max_new_tokens=12,
        )
        assert ours == expected


def test_a_wide_enough_beam_finds_the_best_text() -> None:
    """Against all 11³ texts of three symbols."""
    network = random_network(**OPTIONS["llama"])
    texts = torch.cartesian_prod(*[torch.arange(11)] * 3)
    begin = torch.full((len(texts), 1), network.start)
    with torch.no_grad():
        log_p = network(torch.cat([begin, texts[:, :-1]], 1))[..., :11].log_softmax(-1)
    scores = log_p.gather(2, texts[..., None]).sum((1, 2))
    assert beam_search(network, PROMPTS[0], n_beams=121, length=3) == texts[scores.argmax()].tolist()


def test_a_prompt_is_continued_the_same_alone_and_in_a_batch() -> None:
    """Texts of many lengths, some beyond the context, each with its seed."""
    network = random_network(**OPTIONS["gpt2"])
    rng = torch.Generator().manual_seed(1)
    lengths = (0, 1, 2, 3, 5, 8, 13, 20, 23, 24, 30, 0, 1, 7, 7, 40)
    prompts = [torch.randint(11, (n,), generator=rng) for n in lengths]
    sampling = Sampling(top_p=0.9, repetition_penalty=1.2)
    seeds = list(range(16))
    together = write(network, prompts, seeds=seeds, sampling=sampling, length=30)
    assert {len(text) for text in together} == {30}
    assert together[0] != together[11], "another seed, another text"
    for prompt, seed, text in zip(prompts, seeds, together, strict=True):
        assert write(network, [prompt], seeds=[seed], sampling=sampling, length=30) == [text]


def test_a_text_stops_where_it_ends_and_where_it_is_stopped() -> None:
    network = random_network(**OPTIONS["gpt2"])
    prompts = [PROMPTS[1]] * 8
    options: dict[str, Any] = {"seeds": range(8), "sampling": Sampling(), "length": 20, "ends": [network.start]}
    free = write(network, prompts, **options)
    assert min(map(len, free)) < 20 and all(network.start not in text for text in free)
    two = write(network, prompts, **options, stopped=lambda text: len(text) == 2)
    assert two == [text[:2] for text in free]


def test_a_beam_search_must_fit_the_context() -> None:
    with pytest.raises(ValueError, match="exceed the context of 24"):
        beam_search(random_network(), PROMPTS[2], n_beams=2, length=20)


def drawn(sampling: Sampling, logits: Tensor, n: int = 20_000) -> Tensor:
    """Shares of the symbols in n draws."""
    uniforms = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return torch.bincount(sampling.draw(logits.expand(n, -1), uniforms), minlength=len(logits)) / n


LOGITS = torch.tensor([0.1, 0.2, 0.3, 0.4]).log()


@pytest.mark.parametrize(
    ("options", "shares"),
    [
        ({}, [0.1, 0.2, 0.3, 0.4]),
        ({"temperature": 0.5}, [1 / 30, 4 / 30, 9 / 30, 16 / 30]),
        ({"temperature": 0}, [0, 0, 0, 1]),
        ({"temperature": 1e-320}, [0, 0, 0, 1]),
        ({"top_k": 2}, [0, 0, 3 / 7, 4 / 7]),
        ({"top_p": 0.7}, [0, 0, 3 / 7, 4 / 7]),
        ({"top_p": 0.71}, [0, 2 / 9, 3 / 9, 4 / 9]),
        ({"top_p": 0.0}, [0, 0, 0, 1]),
        ({"min_p": 0.49}, [0, 2 / 9, 3 / 9, 4 / 9]),
        ({"min_p": 0.51}, [0, 0, 3 / 7, 4 / 7]),
        ({"top_k": 3, "min_p": 0.7}, [0, 0, 3 / 7, 4 / 7]),
    ],
)
def test_what_is_kept_is_drawn_in_proportion(options: dict[str, Any], shares: list[float]) -> None:
    assert drawn(Sampling(**options), LOGITS).tolist() == pytest.approx(shares, abs=1e-3)


def test_a_repetition_penalty_weakens_both_signs() -> None:
    seen = torch.tensor([[True, True, False]])
    assert penalise(torch.tensor([[2.0, -1.0, 3.0]]), seen, 2.0).tolist() == [[1.0, -2.0, 3.0]]


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=12), st.floats(0, 1))
def test_a_nucleus_is_the_fewest_that_reach_its_mass(logits: list[float], mass: float) -> None:
    kept = keep_nucleus(torch.tensor([logits]).double(), mass)[0].isfinite()
    p = torch.tensor(logits).double().softmax(0)
    assert kept.any()
    assert p[kept].sum() >= mass - 1e-12
    assert p[kept].sum() - p[kept].min() < mass or kept.sum() == 1
    assert not (~kept).any() or p[kept].min() >= p[~kept].max()


def test_inversion_reaches_every_symbol_and_no_other() -> None:
    logits = torch.tensor([[-math.inf, 0.0, -math.inf, 0.0, -math.inf]]).double().expand(3, -1)
    assert invert(logits, torch.tensor([0.0, 0.5, 1 - 2e-16], dtype=torch.float64)).tolist() == [1, 3, 3]
