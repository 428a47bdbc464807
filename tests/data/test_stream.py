import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aigc_lab.data.stream import HeldOutBatches, TrainingStream, fold, items

sizes = st.integers(1, 40)


@given(seed=st.integers(0, 2**31), n=sizes, epochs=st.integers(1, 4))
def test_every_epoch_visits_every_item_once_in_an_order_of_its_own(seed: int, n: int, epochs: int) -> None:
    epoch, item = items(seed, 0, n * epochs, n)
    for e in range(epochs):
        assert sorted(item[epoch == e].tolist()) == list(range(n))


@given(seed=st.integers(0, 9), n=sizes, begin=st.integers(0, 200), count=sizes)
def test_the_stream_is_a_function_of_the_position(seed: int, n: int, begin: int, count: int) -> None:
    everything = torch.stack(items(seed, 0, begin + count, n))
    assert torch.equal(torch.stack(items(seed, begin, count, n)), everything[:, begin:])


def test_orders_differ_between_epochs_and_seeds() -> None:
    epoch, item = items(0, 0, 200, 100)
    assert not torch.equal(item[epoch == 0], item[epoch == 1])
    assert not torch.equal(item, items(1, 0, 200, 100)[1])


def stream(**changes: int) -> TrainingStream:
    settings = {"n_items": 10, "batch_size": 6, "n_batches": 7, "seed": 3} | changes
    return TrainingStream(lambda epoch, item: torch.stack([epoch, item]), **settings)


@pytest.mark.parametrize("stop", range(8))
def test_a_resumed_stream_goes_on_where_it_was(stop: int) -> None:
    whole = list(stream())
    first, second = stream(), stream()
    begun = [batch for _, batch in zip(range(stop), first, strict=False)]
    second.load_state_dict(first.state_dict())
    assert len(begun) == stop
    assert all(torch.equal(a, b) for a, b in zip(begun + list(second), whole, strict=True))
    assert len(second) == 7, "Lightning counts from the beginning of the run"


@pytest.mark.parametrize("world_size", [2, 3, 6])
def test_processes_share_each_batch_without_overlap(world_size: int) -> None:
    whole = list(stream())
    parts = [list(stream(rank=rank, world_size=world_size)) for rank in range(world_size)]
    for i, batch in enumerate(whole):
        assert torch.equal(torch.cat([part[i] for part in parts], 1), batch)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_processes_share_the_held_out_batches(world_size: int) -> None:
    def part(rank: int) -> list[int]:
        batches = HeldOutBatches(
            lambda index: index, n_items=20, batch_size=4, n_batches=4, rank=rank, world_size=world_size
        )
        return [i for batch in batches for i in batch.tolist()]

    parts = [part(rank) for rank in range(world_size)]
    assert {i for items in parts for i in items} == set(range(16))
    assert len({len(items) for items in parts}) == 1, "a process without a batch would leave the others waiting"


def test_folded_seeds_are_spread() -> None:
    seeds = {fold(a, b, c) for a in range(10) for b in range(10) for c in range(10)}
    assert len(seeds) == 1000
    assert all(0 <= s < 2**63 for s in seeds)
    assert fold(0, 1) != fold(1, 0)
    assert fold(7, 8, 9) == fold(7, 8, 9)
