"""Plain lines: a text each."""

from collections.abc import Iterator

import pytest

from api.errors import Refused
from api.formats.limits import FileLimits
from api.formats.text import text_rows
from db.files.rows import NewRow

LIMITS = FileLimits(max_line_bytes=64)


def read(data: bytes, chunk_bytes: int = 5) -> list[NewRow]:
    chunks: Iterator[bytes] = (data[start : start + chunk_bytes] for start in range(0, len(data), chunk_bytes))
    return list(text_rows(chunks, LIMITS))


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_every_line_is_a_text_and_blank_ones_are_counted(end: bytes, mark: bytes) -> None:
    rows = read(mark + end.join([b"A goal.", b"", b"  ", b'id,"text', "Zinsen ↑".encode()]))
    assert [(row.line, row.custom_id, row.body) for row in rows] == [
        (1, None, b'{"input":"A goal."}'),
        (4, None, b'{"input":"id,\\"text"}'),
        (5, None, '{"input":"Zinsen ↑"}'.encode()),
    ]


def test_spaces_before_a_text_and_a_bar_in_it_are_content() -> None:
    assert [row.body for row in read(b"  a | b\tc \n")] == [b'{"input":"  a | b\\tc "}']


def test_a_line_that_cannot_be_read_fails_alone() -> None:
    rows = read(b"one\n\xff\n" + b"x" * 65 + b"\na\0b\ntwo")
    assert [(row.line, row.defect) for row in rows] == [
        (1, None),
        (2, "invalid_utf8"),
        (3, "line_too_long"),
        (4, "nul_character:input"),
        (5, None),
    ]


def test_line_ends_of_old_macs_are_told_with_the_command_that_mends_them() -> None:
    with pytest.raises(Refused, match=r"tr '\\r' '\\n'"):
        read(b"one\rtwo\rthree")


def test_a_carriage_return_in_a_line_is_content_where_others_end_in_line_feeds() -> None:
    assert [row.body for row in read(b"10 %\r20 %\nnext\n")] == [b'{"input":"10 %\\r20 %"}', b'{"input":"next"}']


@pytest.mark.parametrize("first", [b'{"text":"a"}', b' {"id": 1, "text": "a"} ', b"{}"])
def test_json_lines_under_a_name_of_plain_lines_are_asked_about(first: bytes) -> None:
    with pytest.raises(Refused, match="form field format"):
        list(text_rows([first + b"\nb"], LIMITS, told_by_name=True))
    assert len(list(text_rows([first + b"\nb"], LIMITS))) == 2


@pytest.mark.parametrize("first", [b"{x} is a set", b'{"text":', b"[1, 2] he said", b'"a"', b"{" * 60])
def test_a_text_in_braces_is_a_text(first: bytes) -> None:
    assert [row.defect for row in text_rows([first + b"\nb"], LIMITS, told_by_name=True)] == [None, None]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1....", "CSV"),
        (b"PK\x03\x04....", "CSV"),
        (b"%PDF-1.7\n....", "PDF"),
        (b"BZh91AY&SY....", "gzip"),
        (b"\xfd7zXZ\x00....", "gzip"),
        (b"PAR1....", "Parquet"),
        ("one\n".encode("utf-16-le"), "UTF-8"),
    ],
)
def test_what_is_no_text_is_refused_with_what_to_do(data: bytes, said: str) -> None:
    with pytest.raises(Refused, match=said):
        read(data)


def test_a_text_may_begin_with_what_only_looks_like_another_file() -> None:
    assert [row.defect for row in read(b"BZh is a prefix\nPK is another\n")] == [None, None]


@pytest.mark.parametrize("data", [b"id,text\n1,goal\n", b"id\ttext\n1\tgoal\n", b"Text;Label\ngoal;sport\n"])
def test_a_csv_under_a_name_of_plain_lines_is_asked_about(data: bytes) -> None:
    with pytest.raises(Refused, match="set the form field format to `csv`"):
        list(text_rows([data], LIMITS, told_by_name=True))
    assert len(list(text_rows([data], LIMITS))) == 2


@pytest.mark.parametrize("data", [b"Text, and more of it\nno comma\n", b"text\ngoal\n", b"goal, bank\nlaw, art\n"])
def test_lines_with_commas_are_texts(data: bytes) -> None:
    assert len(list(text_rows([data], LIMITS, told_by_name=True))) == 2


@pytest.mark.parametrize("end", [b"\x1a", b"\n\x1a", b"\x1a" * 100, b"\n\x1a\r\n", b"\n\x1a\n\x1a"])
@pytest.mark.parametrize("chunk_bytes", [1, 5, 1000])
def test_the_mark_that_dos_ends_a_text_with_is_no_line(end: bytes, chunk_bytes: int) -> None:
    rows = read(b"A goal.\nA strike." + end, chunk_bytes)
    assert [row.body for row in rows] == [b'{"input":"A goal."}', b'{"input":"A strike."}']


@pytest.mark.parametrize("chunk_bytes", [1, 5, 1000])
def test_the_same_character_elsewhere_is_content(chunk_bytes: int) -> None:
    rows = read(b"\x1a\na\x1ab\n\x1a\n\nend", chunk_bytes)
    assert [(row.line, row.body) for row in rows] == [
        (1, b'{"input":"\\u001a"}'),
        (2, b'{"input":"a\\u001ab"}'),
        (3, b'{"input":"\\u001a"}'),
        (5, b'{"input":"end"}'),
    ]
