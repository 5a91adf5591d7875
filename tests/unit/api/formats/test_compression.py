"""gzip and zstd: read as they stream, whatever the file's name says, and bounded by what comes out."""

import gzip
import random
from collections.abc import Iterator
from functools import partial

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import Refused
from api.formats.compression import FREE_BYTES, MAX_RATIO, beginning, unpacked
from api.formats.csv import csv_rows
from api.formats.jsonl import batch_rows, plain_rows
from api.formats.limits import Columns, FileLimits
from api.formats.text import text_rows

LIMITS = FileLimits(max_line_bytes=4096)
PACK = {"gzip": gzip.compress, "zstd": partial(pa.compress, codec="zstd", asbytes=True)}
SKIPPABLE = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"  # what pzstd writes before each frame


def pieces(data: bytes, chunk_bytes: int = 3) -> Iterator[bytes]:
    return (data[start : start + chunk_bytes] for start in range(0, len(data), chunk_bytes))


@pytest.mark.parametrize("codec", PACK)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_compressed_file_is_read_like_the_file_in_it(codec: str, mark: bytes) -> None:
    table = PACK[codec](mark + b"id;text\r\n1;goal\r\n")
    lines = PACK[codec](mark + b'{"id":1,"text":"goal"}\n')
    plain = PACK[codec](mark + b"goal\r\n")
    batch = PACK[codec](mark + b'{"custom_id":"1","method":"POST","url":"/v1/embeddings","body":{"input":"goal"}}')
    columns = Columns()
    rows = [*csv_rows(pieces(table), columns, LIMITS), *plain_rows(pieces(lines), columns, LIMITS), *text_rows(pieces(plain), LIMITS)]
    assert [(row.custom_id, row.body, row.defect) for row in rows] == [(name, b'{"input":"goal"}', None) for name in ("1", "1", None)]
    assert [row.defect for row in batch_rows(pieces(batch), LIMITS)] == [None]


@pytest.mark.parametrize("codec", PACK)
def test_joined_parts_are_one_file(codec: str) -> None:
    data = PACK[codec](b"one\ntw") + PACK[codec](b"") + PACK[codec](b"o\n")
    assert b"".join(unpacked(pieces(data), codec, 1 << 20)) == b"one\ntwo\n"


@pytest.mark.parametrize("chunk_bytes", [1, 7, 100_000])
def test_zero_bytes_behind_a_gzip_file_are_no_damage(chunk_bytes: int) -> None:
    part, zeros = gzip.compress(b"one\n"), bytes(70_000)
    for data in (part + zeros, part + b"\0" + part + zeros, gzip.compress(b"") + zeros + part):
        assert b"".join(unpacked(pieces(data, chunk_bytes), "gzip", 1 << 20)) == gzip.decompress(data)


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4), st.integers(1, 50), st.integers(1, 400))
def test_what_is_packed_comes_out_as_it_went_in_however_it_is_cut(parts: list[bytes], chunk_bytes: int, read_bytes: int) -> None:
    data = b"".join(map(gzip.compress, parts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("api.formats.compression.READ_BYTES", read_bytes)
        assert b"".join(unpacked(pieces(data, chunk_bytes), "gzip", 1 << 20)) == b"".join(parts)


def test_a_zstd_file_may_begin_with_a_frame_to_be_skipped() -> None:
    [row] = text_rows(pieces(SKIPPABLE + PACK["zstd"](b"goal")), LIMITS)
    assert row.body == b'{"input":"goal"}'


@pytest.mark.parametrize("codec", PACK)
def test_a_file_that_is_cut_or_damaged_is_refused(codec: str) -> None:
    whole = PACK[codec](bytes(random.Random(1).randbytes(5000).hex(), "ascii"))
    for data in (whole[:-5], whole[:-1], whole[:20], whole[:4], whole + whole[:30]):
        with pytest.raises(Refused) as refused:
            list(unpacked(pieces(data, 1000), codec, 1 << 20))
        assert (refused.value.code, codec in str(refused.value)) == ("compressed_file", True)


def test_a_checksum_that_is_wrong_is_a_damage() -> None:
    data = bytearray(PACK["gzip"](b"goal\n"))
    data[-6] ^= 1
    with pytest.raises(Refused, match="cut or damaged"):
        list(unpacked([bytes(data)], "gzip", 1 << 20))


@pytest.mark.parametrize("codec", PACK)
@pytest.mark.parametrize("byte", [b"\n", b"\0", b" ", b'x","\n'])
def test_a_bomb_stops_long_before_it_is_unpacked(codec: str, byte: bytes) -> None:
    data = PACK[codec](byte * ((256 << 20) // len(byte)))
    came: list[int] = []
    with pytest.raises(Refused) as refused:
        came.extend(map(len, unpacked(pieces(data, 1 << 16), codec, 4 << 30)))
    assert (refused.value.code, refused.value.status) == ("file_too_large", 413)
    assert came == []


def test_a_bomb_behind_an_honest_beginning_stops_too() -> None:
    text = bytes(random.Random(1).randbytes(100_000).hex(), "ascii")
    data = gzip.compress(text) + gzip.compress(b"\n" * (256 << 20))
    came: list[int] = []
    with pytest.raises(Refused):
        came.extend(map(len, unpacked(pieces(data, 1 << 16), "gzip", 4 << 30)))
    assert sum(came) <= MAX_RATIO * len(data[: len(data) // 2])


def test_a_large_file_of_texts_comes_out_whole() -> None:
    words = [str(number) for number in random.Random(1).choices(range(10**6), k=2_000_000)]
    text = " ".join(words).encode()
    assert len(text) > FREE_BYTES
    assert b"".join(unpacked(pieces(gzip.compress(text, 1), 1 << 16), "gzip", 4 << 30)) == text


@pytest.mark.parametrize("codec", PACK)
def test_what_comes_out_is_bounded_whatever_the_ratio(codec: str) -> None:
    data = PACK[codec](b"goal\n" * 1000)
    assert sum(map(len, unpacked([data], codec, 5000))) == 5000
    with pytest.raises(Refused, match="more than"):
        list(unpacked([data], codec, 4999))


@pytest.mark.parametrize("codec", PACK)
def test_what_is_often_the_same_is_read_where_it_is_small(codec: str) -> None:
    assert len(list(text_rows([PACK[codec](b"The same goal.\n" * 100_000)], LIMITS))) == 100_000


@pytest.mark.parametrize("codec", PACK)
@pytest.mark.parametrize(
    ("inside", "said"),
    [
        (PACK["gzip"](b"goal"), "compressed twice"),
        (PACK["zstd"](b"goal"), "compressed twice"),
        ("goal".encode("utf-16"), "UTF-8"),
        (b"PAR1....", "without"),
        (b"PK\x03\x04....", "CSV"),
        (b"in.csv".ljust(257, b"\0") + b"ustar\x0000".ljust(300, b"\0"), "archive"),
    ],
)
def test_what_is_in_it_is_looked_at(codec: str, inside: bytes, said: str) -> None:
    with pytest.raises(Refused, match=said):
        list(plain_rows(pieces(PACK[codec](inside)), Columns(), LIMITS))


def test_a_sender_that_goes_away_is_no_damage() -> None:
    def cut() -> Iterator[bytes]:
        yield PACK["gzip"](b"goal\n")[:15]
        raise Refused("upload_cut", "The upload broke off.")

    with pytest.raises(Refused) as refused:
        list(unpacked(cut(), "gzip", 1 << 20))
    assert refused.value.code == "upload_cut"


@pytest.mark.parametrize("codec", PACK)
def test_the_beginning_of_a_file_is_known_though_the_rest_is_not_there(codec: str) -> None:
    text = b"".join(b"line %d\n" % at for at in range(200_000))
    data = PACK[codec](text)
    found = beginning(data[: len(data) // 2], 1 << 16)
    assert found
    assert text.startswith(found)
    assert beginning(b"plain\n", 3) == b"pla"
