import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from aigc_lab.objectives.style import content_loss, gram, style_loss


def maps(seed: int, n: int = 4, side: int = 6) -> torch.Tensor:
    return torch.randn(n, side, side, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def test_the_gram_matrix_by_hand() -> None:
    given_maps = torch.tensor([[[1.0, 2.0]], [[3.0, -1.0]]])
    assert_close(gram(given_maps), torch.tensor([[5.0, 1.0], [1.0, 10.0]]) / 2)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000))
def test_style_is_where_nothing_stands_and_content_is_not(seed: int) -> None:
    """Places can be permuted, and a picture repeated, without changing its style."""
    x = maps(seed)
    order = torch.randperm(36, generator=torch.Generator().manual_seed(seed))
    moved = x.flatten(1)[:, order].view_as(x)
    assert style_loss([moved, x.repeat(1, 2, 1)], [gram(x), gram(x)]) < 1e-20
    assert style_loss([x], [gram(maps(seed + 1))]) > 0
    assert content_loss(x, x) == 0 and content_loss(moved, x) > 0


def test_the_losses_by_hand() -> None:
    one, two = torch.full((2, 3, 3), 1.0), torch.full((2, 3, 3), 2.0)
    assert content_loss(two, one) == 1
    assert style_loss([two], [gram(one)]) == (4 - 1) ** 2 / 4, "Σ (4 - 1)² over 2² entries, by 4 N²"
    assert style_loss([two, one], [gram(one), gram(one)]) == 9 / 8
