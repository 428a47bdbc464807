"""The encoder-decoder against torch's own layers, and what decoding relies on."""

import pytest
import torch
from torch import Tensor, nn

from aigc_lab.decoding import Sampling, beam_search, write
from aigc_lab.nets.attention import CrossAttention
from aigc_lab.nets.encoder_decoder import EncoderDecoder
from aigc_lab.nets.transformer import Block, gelu

WIDTH, HEADS, SYMBOLS, CONTEXT = 16, 2, 7, 12
TEXTBOOK = {"rotary": False, "norm": "layer", "feed_forward": "gelu", "qk_norm": False, "bias": True}
OURS = {"n_kv_heads": 1, "feed_forward": "swiglu", "tied": False}
"""Options that `torch.nn` does not have."""


def network(**options: object) -> EncoderDecoder:
    torch.manual_seed(0)
    sizes = {"width": WIDTH, "n_heads": HEADS, "n_encoder_layers": 2, "n_decoder_layers": 3}
    net = EncoderDecoder(shape=(CONTEXT,), vocab_size=SYMBOLS, **sizes, **options)
    for parameter in net.parameters():  # away from the small initial values, so that nothing is linear
        nn.init.normal_(parameter, std=0.4)
    return net.eval()


def sources() -> Tensor:
    source = torch.randint(SYMBOLS, (3, 9), generator=torch.Generator().manual_seed(1))
    source[0, 4:], source[1, 7:] = -1, -1
    return source


def test_it_is_torchs_transformer() -> None:
    """Encoder, decoder, cross-attention and padding: `torch.nn`'s layers with the same weights."""
    net, source = network(**TEXTBOOK), sources()
    target = torch.randint(SYMBOLS, (3, 5))
    options = {"activation": gelu, "batch_first": True, "norm_first": True}
    encoder_layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, **options)
    encoder = nn.TransformerEncoder(encoder_layer, 2, nn.LayerNorm(WIDTH), enable_nested_tensor=False).eval()
    decoder_layer = nn.TransformerDecoderLayer(WIDTH, HEADS, 4 * WIDTH, **options)
    decoder = nn.TransformerDecoder(decoder_layer, 3, nn.LayerNorm(WIDTH)).eval()
    for theirs, ours in ((encoder, net.encoder), (decoder, net.decoder)):
        for layer, block in zip(theirs.layers, ours.blocks, strict=True):
            layer.load_state_dict(torchs_names(block))
        theirs.norm.load_state_dict(ours.norm.state_dict())

    def embedded(symbols: Tensor, positions: Tensor) -> Tensor:
        return net.decoder.embedding(symbols.clamp(min=0)) + positions[: symbols.shape[1]]

    mask = source < 0
    memory = encoder(embedded(source, net.encoder.positions), src_key_padding_mask=mask)
    hidden = decoder(
        embedded(target, net.decoder.positions),
        memory,
        tgt_mask=nn.Transformer.generate_square_subsequent_mask(5),
        memory_key_padding_mask=mask,
    )
    expected = hidden @ net.decoder.embedding.weight.T
    torch.testing.assert_close(net(source, target), expected, rtol=1e-4, atol=1e-4)


def torchs_names(block: Block) -> dict[str, Tensor]:
    """A block's weights as `nn.TransformerEncoderLayer` and `nn.TransformerDecoderLayer` call them."""
    cross = hasattr(block, "cross_attention")
    parts = {
        "self_attn.in_proj_": block.attention.qkv,
        "self_attn.out_proj.": block.attention.project,
        "linear1.": block.feed_forward.expand,
        "linear2.": block.feed_forward.project,
        "norm1.": block.attention_norm,
        "norm3." if cross else "norm2.": block.feed_forward_norm,
    }
    if cross:
        parts |= {"multihead_attn.out_proj.": block.cross_attention.project, "norm2.": block.cross_norm}
    found = {name + key: value for name, part in parts.items() for key, value in part.state_dict().items()}
    for key in ("weight", "bias") if cross else ():
        both = [getattr(block.cross_attention.query, key), getattr(block.cross_attention.kv, key)]
        found[f"multihead_attn.in_proj_{key}"] = torch.cat(both)
    return found


def test_grouped_cross_attention_is_softmax_of_scaled_scores() -> None:
    """With fewer heads of keys and values, and normalised queries and keys: written out."""
    torch.manual_seed(0)
    layer = CrossAttention(WIDTH, n_heads=4, n_kv_heads=2, qk_norm=True, bias=False)
    x, other = torch.randn(2, 3, WIDTH), torch.randn(2, 5, WIDTH)
    there = torch.tensor([[True] * 5, [True] * 2 + [False] * 3])
    q = layer.query_norm(layer.query(x).view(2, 3, 4, 4))
    k, v = layer.kv(other).view(2, 5, 2, 2, 4).unbind(2)
    k, v = (part.repeat_interleave(2, 2) for part in (layer.key_norm(k), v))  # each serves two heads
    scores = torch.einsum("blhd,bshd->bhls", q, k) / 4**0.5
    weights = scores.masked_fill(~there[:, None, None], -torch.inf).softmax(-1)
    expected = layer.project(torch.einsum("bhls,bshd->blhd", weights, v).flatten(2))
    torch.testing.assert_close(layer(x, layer.read(other, there)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", [TEXTBOOK, OURS], ids=["textbook", "ours"])
def test_padding_and_company_change_nothing(options: dict[str, object]) -> None:
    """A source's logits are the same alone as beside longer ones, and what follows in the target is not seen."""
    net, source, target = network(**options), sources(), torch.randint(SYMBOLS, (3, 5))
    together = net(source, target)
    alone = net(source[:1, :4], target[:1, :2])
    torch.testing.assert_close(together[:1, :2], alone, rtol=1e-5, atol=1e-5)
    other = source.clone()
    other[:, 0] = (other[:, 0] + 1) % SYMBOLS
    assert not torch.allclose(net(other, target), together), "the source is seen"


@pytest.mark.parametrize("options", [TEXTBOOK, OURS], ids=["textbook", "ours"])
def test_decoding_through_the_cache_finds_what_reading_anew_does(options: dict[str, object]) -> None:
    net, source = network(**options), sources()
    written = write(
        net.given(source),
        [torch.zeros(0, dtype=torch.long)] * 3,
        seeds=[0, 1, 2],
        sampling=Sampling(temperature=0),
        length=CONTEXT,
    )
    read = torch.full((3, 1), net.start)
    for _ in range(CONTEXT):
        likeliest = net(source, read)[:, -1, :SYMBOLS].argmax(-1)
        read = torch.cat([read, likeliest[:, None]], 1)[:, : CONTEXT + 1]
    assert written == read[:, 1:].tolist()


@torch.inference_mode()
def test_a_wide_beam_finds_the_likeliest_target() -> None:
    """All targets of up to three symbols, scored one by one, against a beam that keeps them all."""
    net, source = network(), sources()[:1]
    scored = {}
    for target in (torch.cartesian_prod(*[torch.arange(SYMBOLS + 1)] * 3)).tolist():
        n = target.index(net.start) + 1 if net.start in target else 3
        symbols = torch.tensor([[net.start, *target[: n - 1]]])
        log_p = net(source, symbols)[0].log_softmax(-1)
        scored[tuple(target[:n])] = float(sum(log_p[i, target[i]] for i in range(n))) / n
    best = max(scored, key=lambda target: scored[target])
    beams = net.given(source.expand(SYMBOLS**3, -1))
    found = beam_search(beams, torch.zeros(0, dtype=torch.long), n_beams=SYMBOLS**3, length=3, ends=[beams.start])
    assert found == [symbol for symbol in best if symbol != net.start]
