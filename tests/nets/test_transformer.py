import math

import pytest
import torch
from torch.nn import functional as F

from aigc_lab.nets.transformer import Transformer, rotary_angles, rotate


@pytest.fixture
def network() -> Transformer:
    torch.manual_seed(0)
    net = Transformer(
        shape=(12,), vocab_size=7, width=16, n_layers=2, n_heads=2, dropout=0.0, place_embedding=True
    )
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
    torch.testing.assert_close(layer(x, angles, None), layer.project(torch.cat(heads, -1)))


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
    net = Transformer(
        shape=(64,), vocab_size=50, width=64, n_layers=3, n_heads=4, dropout=0.0, place_embedding=False
    )
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
            dropout=0.0,
            place_embedding=False,
        )
