import itertools
import math
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from aigc_lab.nets.attention import Attention, Sight, document_sight, places, rotary_angles, rotate
from aigc_lab.nets.transformer import Transformer


@pytest.fixture
def network() -> Transformer:
    torch.manual_seed(0)
    net = Transformer(shape=(12,), vocab_size=7, width=16, n_layers=2, n_heads=2, position_embedding=True)
    for parameter in net.parameters():  # away from the small initial values, so that nothing is linear
        torch.nn.init.normal_(parameter, std=0.5)
    return net.eval()


def test_a_prediction_does_not_see_what_follows(network: Transformer) -> None:
    x = torch.randint(7, (1, 12))
    for changed in range(12):
        y = x.clone()
        y[0, changed] = (y[0, changed] + 1) % 7
        before, after = network(x), network(y)
        assert torch.equal(before[:, :changed], after[:, :changed])
        assert not torch.allclose(before[:, changed:], after[:, changed:])


@pytest.mark.parametrize("pieces", [[12], [1] * 12, [5, 1, 6], [3, 9]])
def test_reading_in_pieces_through_the_cache_gives_the_same_logits(
    network: Transformer, pieces: list[int]
) -> None:
    x = torch.randint(7, (3, 12))
    cache = network.new_cache(3)
    logits = torch.cat([network(piece, cache) for piece in x.split(pieces, 1)], 1)
    torch.testing.assert_close(logits, network(x), rtol=1e-5, atol=1e-5)
    assert cache.length == cache.capacity == 12


def test_attention_is_softmax_of_scaled_scores(network: Transformer) -> None:
    """The whole attention layer against its textbook form, written out."""
    layer, x = network.blocks[0].attention, torch.randn(1, 5, 16)
    angles = rotary_angles(5, 8)
    q, k, v = layer.qkv(x).view(1, 5, 3, 2, 8).unbind(2)
    heads = []
    for h in range(2):
        qh, kh = rotate(layer.query_norm(q[:, :, h]), angles), rotate(layer.key_norm(k[:, :, h]), angles)
        scores = (qh @ kh.mT / 8**0.5).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
        heads.append(scores.softmax(-1) @ v[:, :, h])
    torch.testing.assert_close(layer(x, angles, Sight(causal=True)), layer.project(torch.cat(heads, -1)))


def test_queries_and_keys_are_normalised_by_the_fused_kernels_with_autocast(network: Transformer) -> None:
    """Torch warns where it cannot use them."""
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings(), torch.autocast("cpu", torch.bfloat16):
            warnings.simplefilter("error")
            assert network(torch.randint(7, (1, 12))).isfinite().all()
    finally:
        torch.set_warn_always(False)


def test_rotary_scores_depend_on_the_distance_only() -> None:
    q, k, angles = torch.randn(8), torch.randn(8), rotary_angles(40, 8)
    rotated_q, rotated_k = rotate(q.expand(40, 8), angles), rotate(k.expand(40, 8), angles)
    scores = rotated_q @ rotated_k.T
    for distance in range(-39, 40):
        diagonal = scores.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(rotated_q.norm(dim=-1), q.norm().expand(40))


def test_a_new_network_knows_nothing() -> None:
    """Before training every symbol is about equally likely: the loss starts at log V."""
    torch.manual_seed(0)
    net = Transformer(shape=(64,), vocab_size=50, width=64, n_layers=3, n_heads=4)
    x = torch.randint(50, (8, 64))
    loss = F.cross_entropy(net(x).flatten(0, 1), x.flatten())
    assert float(loss) == pytest.approx(math.log(50), abs=0.1)


@pytest.mark.parametrize(("width", "n_heads"), [(16, 3), (6, 2), (4, 8)])
def test_heads_must_fit_the_width(width: int, n_heads: int) -> None:
    with pytest.raises(ValueError, match="heads of even size"):
        Transformer(
            shape=(4,),
            vocab_size=2,
            width=width,
            n_layers=1,
            n_heads=n_heads,
        )


OPTIONS = {
    "gpt-2": {
        "norm": "layer",
        "feed_forward": "gelu",
        "rotary": False,
        "position_embedding": True,
        "qk_norm": False,
    }
    | {"rotary": False, "position_embedding": True, "bias": True, "tied": True},
    "llama": {"norm": "rms", "feed_forward": "swiglu", "qk_norm": False, "n_kv_heads": 2},
    "one head of keys": {"n_kv_heads": 1},
    "no positions": {"rotary": False},
    "narrow": {"window": 3},
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("pieces", [[12], [5, 1, 6]])
def test_every_option_reads_in_pieces_and_sees_nothing_that_follows(name: str, pieces: list[int]) -> None:
    torch.manual_seed(0)
    net = Transformer(shape=(12,), vocab_size=7, width=16, n_layers=2, n_heads=4, **OPTIONS[name])  # type: ignore[arg-type]
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    net.eval()
    x = torch.randint(7, (2, 12))
    whole, cache = net(x), net.new_cache(2)
    logits = torch.cat([net(piece, cache) for piece in x.split(pieces, 1)], 1)
    torch.testing.assert_close(logits, whole, rtol=1e-4, atol=1e-4)
    changed = x.clone()
    changed[:, 7] = (changed[:, 7] + 1) % 7
    assert torch.equal(net(changed)[:, :7], whole[:, :7])


def test_a_window_of_two_layers_of_three_reaches_four_back() -> None:
    torch.manual_seed(0)
    net = Transformer(shape=(12,), vocab_size=7, width=16, n_layers=2, n_heads=2, window=3).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x = torch.randint(7, (1, 12))
    y = x.clone()
    y[0, 4] = (y[0, 4] + 1) % 7
    differs = (net(x) - net(y)).abs().amax(-1)[0] > 1e-6
    assert differs.nonzero().flatten().tolist() == [4, 5, 6, 7, 8]


def test_without_a_mask_a_position_sees_all() -> None:
    net = Transformer(shape=(6,), vocab_size=7, width=16, n_layers=1, n_heads=2, causal=False).eval()
    x = torch.randint(7, (1, 6))
    y = x.clone()
    y[0, 5] = (y[0, 5] + 1) % 7
    assert not torch.allclose(net(x)[:, 0], net(y)[:, 0])


def test_grouped_queries_are_heads_whose_keys_are_the_same() -> None:
    """A network with 2 heads of keys is one with 4 whose second pair repeats the first's weights."""
    torch.manual_seed(0)
    grouped = Attention(16, n_heads=4, n_kv_heads=2, qk_norm=False, bias=False)
    full = Attention(16, n_heads=4, n_kv_heads=4, qk_norm=False, bias=False)
    q, k, v = grouped.qkv.weight.detach().view(8, 4, 16).split([4, 2, 2])
    full.qkv.weight.data = torch.cat([q, k.repeat_interleave(2, 0), v.repeat_interleave(2, 0)]).reshape(48, 16)
    full.project.weight.data = grouped.project.weight.data
    x, angles = torch.randn(2, 5, 16), rotary_angles(5, 4)
    torch.testing.assert_close(grouped(x, angles, Sight(causal=True)), full(x, angles, Sight(causal=True)))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 16 * 8 * 2 + 2 * (4 * 16 * 16 + 8 * 16 * 16 + 2 * 16 + 2 * 8) + 16),
        (OPTIONS["gpt-2"], 16 * (8 + 12) + 2 * (12 * 16 * 16 + 13 * 16) + 2 * 16),
        ({"feed_forward": "swiglu", "hidden": 40, "qk_norm": False}, 256 + 2 * (4 * 256 + 3 * 16 * 40 + 32) + 16),
    ],
)
def test_parameters_are_those_that_one_counts_by_hand(options: dict[str, object], expected: int) -> None:
    net = Transformer(shape=(12,), vocab_size=7, width=16, n_layers=2, n_heads=2, **options)  # type: ignore[arg-type]
    assert sum(p.numel() for p in net.parameters()) == expected


def test_groups_must_divide_the_heads() -> None:
    with pytest.raises(ValueError, match="n_kv_heads=3 groups"):
        Transformer(shape=(4,), vocab_size=2, width=16, n_layers=1, n_heads=4, n_kv_heads=3)


@pytest.mark.parametrize("name", ["gpt-2", "llama", "narrow"])
def test_texts_that_share_a_row_are_read_as_if_alone(name: str) -> None:
    torch.manual_seed(0)
    net = Transformer(shape=(12,), vocab_size=7, width=16, n_layers=2, n_heads=4, **OPTIONS[name]).eval()  # type: ignore[arg-type]
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    texts = [torch.randint(7, (1, n)) for n in (5, 3, 4)]
    documents = torch.tensor([[4, 4, 4, 4, 4, 0, 0, 0, 9, 9, 9, 9]])
    alone = torch.cat([net(text) for text in texts], 1)
    torch.testing.assert_close(net(torch.cat(texts, 1), documents_BL=documents), alone, rtol=1e-4, atol=1e-4)
    cache = net.new_cache(1)
    pieces = zip(torch.cat(texts, 1).split([6, 1, 5], 1), documents.split([6, 1, 5], 1), strict=True)
    read = torch.cat([net(piece, cache, documents_BL=d) for piece, d in pieces], 1)
    torch.testing.assert_close(read, alone, rtol=1e-4, atol=1e-4)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.integers(1, 6), st.booleans())
def test_what_a_document_sees(sizes: list[int], window: int, causal: bool) -> None:
    """Every pair of positions by the definition, and the place in its document of each."""
    owner = [i for i, size in enumerate(sizes) for _ in range(size)]
    place = [j for size in sizes for j in range(size)]
    documents = torch.tensor([owner])
    assert places(documents).tolist() == [place]
    mask = document_sight(documents, len(owner), window=window, causal=causal).mask
    assert mask is not None
    for i, j in itertools.product(range(len(owner)), repeat=2):
        expected = owner[i] == owner[j] and (not causal or 0 <= i - j < window)
        assert bool(mask[0, 0, i, j]) == expected
