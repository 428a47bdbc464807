from pathlib import Path

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from aigc_lab.data.packing import (
    IGNORED,
    PADDING,
    Packed,
    Windows,
    begins,
    best_fit,
    inputs,
)
from aigc_lab.data.text import TextFile
from aigc_lab.data.token_files import Tokens
from aigc_lab.data.tokenizing import ByBytes
from aigc_lab.nets.attention import document_sight, places

LENGTH = 8

corpora = st.lists(st.integers(0, 20), min_size=1, max_size=12)
"""Lengths of documents."""


def packed(lengths: list[int]) -> tuple[Tokens, Packed]:
    """Documents whose symbols are 0, 1, 2, ... throughout."""
    tokens = Tokens(np.arange(sum(lengths), dtype=np.uint16), np.cumsum([0, *lengths]))
    return tokens, Packed(tokens, LENGTH)


def windows_of(packed: Packed) -> Windows:
    return packed.gather(torch.arange(len(packed)))


@given(corpora.filter(any))
def test_every_symbol_stands_in_one_window(lengths: list[int]) -> None:
    tokens, pack = packed(lengths)
    windows = windows_of(pack)
    assert len(windows) == len(pack) and windows.symbols.shape == (len(pack), LENGTH)
    inside = windows.documents != PADDING
    assert sorted(windows.symbols[inside].tolist()) == tokens.symbols.tolist()
    assert (windows.symbols[~inside] == 0).all()


@given(corpora.filter(any))
def test_a_document_of_a_window_is_a_run_of_one_document_from_its_beginning(lengths: list[int]) -> None:
    tokens, pack = packed(lengths)
    windows = windows_of(pack)
    for symbols, documents in zip(windows.symbols, windows.documents, strict=True):
        for i in documents.unique().tolist():
            if i != PADDING:
                run = symbols[documents == i].tolist()
                assert run == list(range(run[0], run[0] + len(run)))
                (document,) = {int(np.searchsorted(tokens.starts, symbol, side="right")) - 1 for symbol in run}
                into = run[0] - tokens.starts[document]
                assert into % LENGTH == 0, "a document longer than a window is cut at whole windows"


@given(st.lists(st.integers(1, 9), min_size=1, max_size=60))
def test_best_fit_keeps_to_the_capacity_and_wastes_little(lengths: list[int]) -> None:
    bins = best_fit(np.array(lengths), 9)
    filled = np.bincount(bins, weights=lengths)
    assert (filled > 0).all() and (filled <= 9).all()
    assert len(filled) == 1 or sum(sorted(filled)[:2]) > 9, "no two bins fit into one"


def test_small_documents_fill_their_windows() -> None:
    lengths = torch.randint(10, 120, (3000,), generator=torch.Generator().manual_seed(0)).tolist()
    tokens = Tokens(np.zeros(sum(lengths), dtype=np.uint8), np.cumsum([0, *lengths]))
    assert sum(lengths) / (len(Packed(tokens, 256)) * 256) > 0.99


documents = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(
    lambda sizes: torch.tensor([i for i, n in enumerate(sizes) for _ in range(n)] + [PADDING] * (16 - sum(sizes)))
)
"""The `documents` of a window of 16 symbols."""


@given(documents)
def test_a_position_sees_its_own_document_up_to_itself_and_nothing_else(window: Tensor) -> None:
    mask = document_sight(window[None], window.numel(), window=None, causal=True).mask
    assert mask.shape == (1, 1, 16, 16) and mask.dtype == torch.bool
    for i in range(16):
        for j in range(16):
            assert bool(mask[0, 0, i, j]) == (j <= i and window[i] == window[j])
    assert mask.any(-1).all(), "no row is empty, which would be NaN in a softmax"


@given(documents)
def test_positions_count_from_the_beginning_of_each_document(window: Tensor) -> None:
    expected = [i - window.tolist().index(d) for i, d in enumerate(window.tolist())]
    assert places(window[None])[0].tolist() == expected
    assert begins(window[None])[0].tolist() == [p == 0 for p in expected]


@given(documents, st.integers(0, 15), st.integers(1, 9))
def test_nothing_leaks_from_one_document_into_another(window: Tensor, changed: int, by: int) -> None:
    """One layer of attention over what the network reads, with positions: a change in one document moves the
    outputs of that document only, and there only behind it."""
    symbols = torch.arange(16)
    moved = symbols.clone()
    moved[changed] += by

    def outputs(symbols: Tensor) -> Tensor:
        windows = Windows(symbols[None], window[None])
        read = inputs(windows, start=99) * 0.1 + places(windows.documents) * 0.01
        x = torch.stack([read.sin(), read.cos(), read], -1)[:, None]
        sight = document_sight(windows.documents, 16, window=None, causal=True)
        return F.scaled_dot_product_attention(x, x, x, attn_mask=sight.mask)[0, 0]

    differs = (outputs(symbols) != outputs(moved)).any(-1)
    may = (window == window[changed]) & (torch.arange(16) > changed)
    assert not (differs & ~may).any()


def test_a_document_begins_behind_the_start_symbol_wherever_it_stands() -> None:
    windows = Windows(torch.tensor([[5, 6, 7, 8, 0]]), torch.tensor([[0, 0, 1, 1, PADDING]]))
    assert inputs(windows, start=9).tolist() == [[9, 5, 9, 7, 9]]
    assert windows.targets.tolist() == [[5, 6, 7, 8, IGNORED]]


def test_windows_move_and_part_like_tensors() -> None:
    windows = Windows(torch.arange(20).view(5, 4), torch.zeros(5, 4, dtype=torch.long))
    moved = windows.to(torch.device("cpu"))
    assert torch.equal(moved.symbols, windows.symbols) and torch.equal(moved.documents, windows.documents)
    pieces = windows.chunk(2)
    assert [len(piece) for piece in pieces] == [3, 2]
    assert torch.equal(torch.cat([piece.symbols for piece in pieces]), windows.symbols)


def test_a_corpus_is_packed_by_its_documents(tmp_path: Path) -> None:
    path = tmp_path / "poems.txt"
    path.write_text("\n\n".join(f"poem {i}\nof {i} lines" for i in range(60)))
    data = TextFile(
        path=str(path),
        name=None,
        pattern="",
        separator="\n\n",
        tokenizer=ByBytes(),
        packing=True,
        batch_size=2,
        context=40,
        passage=20,
        held_out=0.2,
    )
    everything = torch.arange(data.n_items)
    windows = data.gather(torch.zeros_like(everything), everything)
    found = [
        bytes(row[of == i].tolist())
        for row, of in zip(windows.symbols, windows.documents, strict=True)
        for i in of.unique().tolist()
        if i != PADDING
    ]
    train = [poem + b"\n\n" for poem in data.likelihood_items("train").passages]
    assert sorted(found) == sorted([*train[:-1], train[-1].strip()])
    held_out = data.gather_held_out(torch.arange(data.n_held_out_items))
    assert isinstance(held_out, Windows) and len(held_out) == data.n_held_out_items
