"""Rows whose custom id came before are found exactly, in whatever order, across chunks, and not among rows without an id."""

import hashlib
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from db.files.doubles import Doubles


def digest(id: int | None) -> bytes | None:
    return None if id is None else hashlib.sha256(str(id).encode()).digest()[:16]


def found(*chunks: Sequence[int | None]) -> list[int]:
    doubles = Doubles()
    for chunk in chunks:
        doubles.add([digest(id) for id in chunk])
    return doubles.idxs()


def test_every_row_but_the_first_of_an_id_is_a_double() -> None:
    assert found([7, 3, 7, 1], [3, 7, 9]) == [2, 4, 5]


def test_rows_without_an_id_are_no_doubles() -> None:
    assert found([None, 1, None], [None, 1]) == [4]


def test_without_rows_or_doubles_there_is_none() -> None:
    assert found() == found([]) == found([1, 2], [3]) == []


@given(st.lists(st.lists(st.none() | st.integers(0, 9))))
def test_they_are_the_ones_a_reader_would_find(chunks: list[list[int | None]]) -> None:
    ids = [id for chunk in chunks for id in chunk]
    assert found(*chunks) == [at for at, id in enumerate(ids) if id is not None and id in ids[:at]]
