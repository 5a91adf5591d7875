import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from workers.engines.encoders.packing import pack

BATCHES = st.lists(st.lists(st.integers(0, 30_000), min_size=1, max_size=30), min_size=1, max_size=30)


@given(BATCHES)
def test_every_sequence_lies_whole_in_its_place(batch: list[list[int]]) -> None:
    packed = pack([np.array(ids, dtype=np.int32) for ids in batch])
    pieces = np.split(packed.ids, np.cumsum(packed.lengths)[:-1])
    assert [pieces[place].tolist() for place in np.argsort(packed.order)] == batch
    positions = np.split(packed.positions, np.cumsum(packed.lengths)[:-1])
    assert all(piece.tolist() == list(range(len(piece))) for piece in positions)


@given(BATCHES)
def test_groups_cover_the_tokens_without_gap_and_hold_one_length_each(batch: list[list[int]]) -> None:
    packed = pack([np.array(ids, dtype=np.int32) for ids in batch])
    at = 0
    for group in packed.groups:
        assert group.start == at
        at += group.count * group.length
    assert at == len(packed.ids) == sum(map(len, batch))
    assert [group.length for group in packed.groups] == sorted({len(ids) for ids in batch})
    assert sum(group.count for group in packed.groups) == len(batch)
