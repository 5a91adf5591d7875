from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.engines.encoders.encoding import Encoding
from workers.engines.encoders.windows import Pieces, windows
from workers.models import registry
from workers.models.provision import ensure


@given(
    count=st.integers(0, 300),
    prefix=st.lists(st.just(-1), max_size=2),
    suffix=st.lists(st.just(-2), max_size=2),
    max_tokens=st.integers(6, 40),
    stride=st.integers(0, 50),
)
def test_windows_hold_every_token_in_order_and_overlap_by_the_stride(
    count: int, prefix: list[int], suffix: list[int], max_tokens: int, stride: int
) -> None:
    ids = np.arange(count, dtype=np.int32)
    made = windows(ids, prefix, suffix, max_tokens, stride)
    room = max_tokens - len(prefix) - len(suffix)
    shared = min(stride, room // 2)
    inner = [one[len(prefix) : len(one) - len(suffix)].tolist() for one in made]
    assert all(one[: len(prefix)].tolist() == prefix and one.dtype == np.int32 for one in made)
    assert all(len(one) == room for one in inner[:-1])
    assert 0 <= len(inner[-1]) <= room
    assert inner[0] + [token for one in inner[1:] for token in one[shared:]] == ids.tolist()
    assert all(before[len(before) - shared :] == after[:shared] for before, after in pairwise(inner))
    assert len(inner) == 1 or len(inner[-1]) > shared, "a last window that only repeats"


@given(counts=st.lists(st.integers(1, 5), min_size=1, max_size=8), data=st.data())
def test_pieces_find_a_texts_sequences_and_pool_them(counts: list[int], data: st.DataObject) -> None:
    pieces = Pieces.split(counts, ["mean"] * len(counts))
    assert pieces.chunked == (max(counts) > 1)
    assert pieces.counts() == counts
    owners = [text for text, count in enumerate(counts) for _ in range(count)]
    assert [pieces.text_of(place) for place in range(sum(counts))] == owners
    chosen = data.draw(st.lists(st.sampled_from(range(len(counts))), unique=True, min_size=1).map(sorted))
    values = np.array(owners, np.float32)[:, None]
    assert pieces.pool(values[list(pieces.of_all(chosen))], chosen)[:, 0].tolist() == chosen


def test_texts_in_one_piece_each_cost_nothing() -> None:
    pieces = Pieces.singles(3)
    assert not pieces.chunked
    values = np.zeros((2, 4), np.float32)
    assert pieces.pool(values, [0, 2]) is values
    assert pieces.of_all([0, 2]) == [0, 2]


@pytest.fixture(scope="module")
def encoding(tmp_path_factory: pytest.TempPathFactory) -> Encoding:
    return Encoding(ensure(registry.get("minilm-l6-v2"), tmp_path_factory.mktemp("home")), max_tokens=256)


def test_the_windows_of_a_real_tokenizer_read_like_its_own_sequences(encoding: Encoding) -> None:
    text = "A sentence about football, and one about the market. " * 60
    made = encoding.windows(text, 16)
    (whole,), (truncated,) = encoding.tokenize([text])
    assert truncated
    assert made[0].tolist() == whole.tolist(), "the first window is what a cut text would be"
    assert {(one[0], one[-1]) for one in made} == {(whole[0], whole[-1])}
    assert all(len(one) == 256 for one in made[:-1])


def test_a_text_that_fits_is_one_window(encoding: Encoding) -> None:
    assert [one.tolist() for one in encoding.windows("Short.", 16)] == [encoding.tokenize(["Short."])[0][0].tolist()]


@pytest.mark.parametrize(
    ("text", "unknown"), [("🦄🦄🦄", True), ("ქართული", True), ("кириллица", False), ("🦄 goal 🦄", False), ("☃️ ⚽", True), ("", False)]
)
def test_a_real_tokenizer_says_which_token_stands_for_what_it_lacks(encoding: Encoding, text: str, unknown: bool) -> None:
    (ids,), _ = encoding.tokenize([text])
    assert ({encoding.unknown_id} == set(ids[1:-1].tolist())) == unknown
