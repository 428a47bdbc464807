"""The lab's Transformers in the layouts of `transformers`: what each tensor is called there, and a folder of them.

What no layout can say is refused, with what would be right.
"""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors
from torch import Tensor

from aigc_lab.data.chat import ChatFormat
from aigc_lab.data.tokens import Bytes, Characters, Subwords, Tokenizer, byte_alphabet
from aigc_lab.errors import UserError
from aigc_lab.generators import Autoregressive, load
from aigc_lab.hub import without_bars
from aigc_lab.nets.attention import ROTARY_BASE
from aigc_lab.nets.pretrained import Pretrained
from aigc_lab.nets.transformer import Transformer
from aigc_lab.run import Run

Tensors = dict[str, Tensor]


def to_transformers(network: Transformer) -> tuple[dict[str, Any], Tensors]:
    """The configuration, as in config.json, and the tensors of the same function in a layout of `transformers`.

    Raises:
        ValueError: no layout has the network's options.
    """
    for layout in LAYOUTS:
        if layout.fits(network):
            return {"model_type": layout.model_type} | _common(network) | layout.config(network), layout.tensors(
                network
            )
    raise ValueError(
        "no layout of transformers has these options; it has GPT-2's (norm=layer feed_forward=gelu rotary=false "
        "position_embedding=true qk_norm=false) and Llama's (norm=rms feed_forward=swiglu rotary=true "
        "position_embedding=false bias=false; qk_norm or window, or none of them)"
    )


START = ("<|endoftext|>", "<|start|>", "<|aigc_lab|>")
"""What the start symbol is called: the first of them that the tokenizer has no symbol for."""


def to_tokenizers(tokenizer: Tokenizer, *, begin: int, end: int) -> tuple[tokenizers.Tokenizer, str, str]:
    """The library's tokenizer of the same symbols, which puts the symbol `begin` before every text, and its names
    for that symbol and for `end`.

    Raises:
        ValueError: the numbers of the symbols leave gaps, or they have all names of the start symbol.
    """
    found = LIBRARY[type(tokenizer)](tokenizer)
    first, last = _name(found, begin), _name(found, end)
    found.post_processor = processors.TemplateProcessing(single=[first, "$A"], special_tokens=[(first, begin)])
    return found, first, last


def _name(library: tokenizers.Tokenizer, number: int) -> str:
    """What the library calls a symbol; one that it does not know is added to it, and those it lacks before."""
    if (known := library.id_to_token(number)) is not None:
        return known
    size, largest = library.get_vocab_size(), max(library.get_vocab().values())
    if largest >= size:
        raise ValueError(f"the tokenizer leaves out numbers: {size} symbols up to {largest}")
    name = next((name for name in START if library.token_to_id(name) is None), None)
    if name is None:
        raise ValueError(f"the tokenizer has symbols {', '.join(START)} of its own")
    library.add_special_tokens([*(f"<|{i}|>" for i in range(size, number)), name])
    return name


def _of_bytes(tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    found = tokenizers.Tokenizer(models.BPE(vocab=dict(byte_alphabet()), merges=[]))
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    found.decoder = decoders.ByteLevel()
    return found


def _of_characters(tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    assert isinstance(tokenizer, Characters)
    vocabulary = {character: i for i, character in enumerate(tokenizer.alphabet)}
    # words of one character each, and no word for others: they are refused, where BPE would leave them out
    found = tokenizers.Tokenizer(models.WordLevel(vocab=vocabulary, unk_token="<unknown>"))
    found.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex(r"[\s\S]"), "isolated")
    found.decoder = decoders.Fuse()
    return found


def _of_subwords(tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    assert isinstance(tokenizer, Subwords)
    return tokenizers.Tokenizer.from_str(tokenizer.model)


LIBRARY: dict[type[Tokenizer], Callable[[Tokenizer], tokenizers.Tokenizer]] = {
    Bytes: _of_bytes,
    Characters: _of_characters,
    Subwords: _of_subwords,
}


def export(run: Run, folder: Path) -> None:
    """Write a folder that `AutoModelForCausalLM` and `AutoTokenizer` open; it appears when it is whole.

    Raises:
        UserError: the run is no language model of a layout that `transformers` has, or the folder exists.
    """
    if folder.exists():
        raise UserError(f"--to {folder}: exists already; name a new folder")
    generator = load(run.path)
    if not isinstance(generator, Autoregressive) or generator.spec.tokenizer is None:
        raise UserError(f"{run.path}: is no language model of texts; only those can be exported")
    network = generator.network
    begin = network.begin if isinstance(network, Pretrained) else network.start
    end = network.end if isinstance(network, Pretrained) else network.start
    try:
        model = _model(network)
        library, first, last = to_tokenizers(generator.spec.tokenizer, begin=begin, end=end)
    except ValueError as error:
        raise UserError(f"{run.path}: {error}") from None
    from transformers import PreTrainedTokenizerFast

    chat = generator.spec.chat
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=library,
        bos_token=first,
        eos_token=last,
        model_max_length=network.context,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = chat and _begun(chat)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise UserError(f"--to {folder}: cannot be written: {error.strerror}") from None
    try:
        with without_bars():
            model.save_pretrained(staging)
        tokenizer.save_pretrained(staging)
        staging.chmod(0o755)
        staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _begun(chat: ChatFormat) -> str:
    """The template, writing the symbol that begins a text: the lab puts it there anyway."""
    writes = "bos_token" in chat.template or (chat.begin and chat.begin in chat.template)
    return chat.template if writes else "{{ bos_token }}" + chat.template


def _model(network: Transformer | Pretrained) -> Any:
    """The model in the library's terms.

    Raises:
        ValueError: no layout has it.
    """
    if isinstance(network, Pretrained):
        return network.model
    from transformers import AutoConfig, AutoModelForCausalLM

    config, tensors = to_transformers(network)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    model.load_state_dict(tensors, strict=False)
    return model


def _common(network: Transformer) -> dict[str, Any]:
    """What every configuration says, in the words of `transformers`; the start symbol begins and ends texts."""
    return {
        "vocab_size": network.vocab_size + 1,
        "bos_token_id": network.start,
        "eos_token_id": network.start,
        "tie_word_embeddings": network.head is None,
        "dtype": "float32",
    }


def _gpt2_config(network: Transformer) -> dict[str, Any]:
    layout = network.layout
    return {
        "n_positions": network.context,
        "n_embd": layout.width,
        "n_layer": len(network.blocks),
        "n_head": layout.n_heads,
        "n_inner": layout.hidden,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "resid_pdrop": layout.dropout,
        "embd_pdrop": layout.dropout,
        "attn_pdrop": 0.0,
    }


def _gpt2_tensors(network: Transformer) -> Tensors:
    """GPT-2 keeps its matrices transposed, and every map has a bias."""
    ours: Tensors = dict(network.named_parameters())
    found = {"transformer.wte.weight": ours["embedding.weight"], "transformer.wpe.weight": ours["positions"]}
    places = {
        f"blocks.{i}.{a}": f"transformer.h.{i}.{b}" for i in range(len(network.blocks)) for a, b in GPT2.items()
    }
    for name, place in {**places, "norm": "transformer.ln_f"}.items():
        weight = ours[f"{name}.weight"]
        found[f"{place}.weight"] = weight.t().contiguous()  # a vector is its own transpose
        found[f"{place}.bias"] = ours.get(f"{name}.bias", weight.new_zeros(len(weight)))
    return found | _head(network)


GPT2 = {
    "attention_norm": "ln_1",
    "attention.qkv": "attn.c_attn",
    "attention.project": "attn.c_proj",
    "feed_forward_norm": "ln_2",
    "feed_forward.expand": "mlp.c_fc",
    "feed_forward.project": "mlp.c_proj",
}
"""A block's parts in our names and in GPT-2's."""


def _llama_config(network: Transformer) -> dict[str, Any]:
    layout = network.layout
    return {
        "max_position_embeddings": network.context,
        "hidden_size": layout.width,
        "num_hidden_layers": len(network.blocks),
        "num_attention_heads": layout.n_heads,
        "num_key_value_heads": layout.n_kv_heads,
        "head_dim": layout.width // layout.n_heads,
        "intermediate_size": layout.hidden,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": ROTARY_BASE},
        "attention_bias": False,
        "mlp_bias": False,
    }


def _llama_tensors(network: Transformer) -> Tensors:
    """Llama keeps queries, keys and values apart, and gates."""
    layout = network.layout
    size = layout.width // layout.n_heads
    ours: Tensors = dict(network.named_parameters())
    found = {"model.embed_tokens.weight": ours["embedding.weight"], "model.norm.weight": ours["norm.weight"]}
    for i in range(len(network.blocks)):
        heads = [layout.n_heads * size, layout.n_kv_heads * size, layout.n_kv_heads * size]
        parts = {b: ours[f"blocks.{i}.{a}.weight"] for a, b in LLAMA.items() if f"blocks.{i}.{a}.weight" in ours}
        names = [f"self_attn.{x}_proj" for x in "qkv"]
        parts |= zip(names, ours[f"blocks.{i}.attention.qkv.weight"].split(heads), strict=True)
        gates = ours[f"blocks.{i}.feed_forward.expand.weight"].chunk(2)
        parts |= zip(["mlp.gate_proj", "mlp.up_proj"], gates, strict=True)
        found |= {f"model.layers.{i}.{name}.weight": tensor for name, tensor in parts.items()}
    return found | _head(network)


LLAMA = {
    "attention_norm": "input_layernorm",
    "attention.query_norm": "self_attn.q_norm",
    "attention.key_norm": "self_attn.k_norm",
    "attention.project": "self_attn.o_proj",
    "feed_forward_norm": "post_attention_layernorm",
    "feed_forward.project": "mlp.down_proj",
}
"""What of a block stands whole in Llama's layout; the norms of queries and keys where there are any."""


def _head(network: Transformer) -> Tensors:
    return {} if network.head is None else {"lm_head.weight": network.head.weight}


def _is_gpt2(network: Transformer) -> bool:
    layout = network.layout
    alike = (layout.norm, layout.activation, layout.qk_norm, network.window) == ("layer", "gelu", False, None)
    whole = layout.n_kv_heads == layout.n_heads and network.causal
    return alike and whole and network.rotation is None and network.positions is not None


def _is_llama(network: Transformer) -> bool:
    layout = network.layout
    alike = (layout.norm, layout.activation, layout.bias) == ("rms", "swiglu", False)
    return alike and network.causal and network.rotation is not None and network.positions is None


@dataclass(frozen=True)
class _Layout:
    model_type: str
    fits: Callable[[Transformer], bool]
    config: Callable[[Transformer], dict[str, Any]]
    tensors: Callable[[Transformer], Tensors]


LAYOUTS = [
    _Layout("gpt2", _is_gpt2, _gpt2_config, _gpt2_tensors),
    _Layout(
        "llama",
        lambda network: _is_llama(network) and not network.layout.qk_norm and network.window is None,
        _llama_config,
        _llama_tensors,
    ),
    _Layout(
        "qwen3",  # Llama with normalised queries and keys
        lambda network: _is_llama(network) and network.layout.qk_norm and network.window is None,
        _llama_config,
        _llama_tensors,
    ),
    _Layout(
        "mistral",  # Llama with a sliding window
        lambda network: _is_llama(network) and not network.layout.qk_norm and network.window is not None,
        lambda network: _llama_config(network) | {"sliding_window": network.window},
        _llama_tensors,
    ),
]
