"""multipart/form-data as a stream: any cut gives the same parts; what is broken is refused."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import Refused
from api.formats.multipart import MAX_FIELD_BYTES, MAX_PARTS, Form

TYPE = "multipart/form-data; boundary=bound"


def body(*parts: tuple[str, bytes]) -> bytes:
    joined = b"".join(b"--bound\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n" % (head.encode(), data) for head, data in parts)
    return joined + b"--bound--\r\n"


def read(data: bytes, chunk_bytes: int = 4096, content_type: str = TYPE) -> list[tuple[str, str | None, bytes]]:
    chunks = (data[start : start + chunk_bytes] for start in range(0, len(data), chunk_bytes))
    return [(part.name, part.filename, b"".join(part.chunks)) for part in Form(content_type, chunks).parts()]


@given(st.binary(max_size=200), st.integers(1, 300))
def test_the_parts_do_not_depend_on_how_the_bytes_were_cut(content: bytes, chunk_bytes: int) -> None:
    data = body(('name="purpose"', b"batch"), ('name="file"; filename="a.jsonl"', content), ('name="empty"', b""))
    if b"\r\n--bound" not in content:
        assert read(data, chunk_bytes) == [("purpose", None, b"batch"), ("file", "a.jsonl", content), ("empty", None, b"")]


@given(st.binary(max_size=400), st.integers(1, 50))
def test_any_bytes_are_parts_or_refused(data: bytes, chunk_bytes: int) -> None:
    with suppress(Refused):
        read(b"--bound\r\n" + data, chunk_bytes)


def test_names_of_files_are_text() -> None:
    assert read(body(('name="file"; filename="caf\xe9 %22x%22.csv"', b"")))[0][1] == 'café "x".csv'


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ("filename*=UTF-8''t%C3%A9.csv", "té.csv"),
        ("filename*=utf-8'de't%C3%A9%20%22x%22.csv", 'té "x".csv'),
        ("filename*=ISO-8859-1''t%E9.csv", "té.csv"),
        ("filename*=UTF-8''t%FF.csv", "t\ufffd.csv"),
        ("filename=\"=?utf-8?B?dMOpLmNzdg==?=\"; filename*=utf-8''t%C3%A9.csv", "té.csv"),
        ("filename*=utf-8''t%C3%A9.csv; filename=\"t.csv\"", "té.csv"),
        ("filename=\"a; filename*=UTF-8''b.csv\"", "a; filename*=UTF-8''b.csv"),
        ("filename=\"t.csv\"; filename*=idna''%FF", "t.csv"),
        ('filename="t.csv"; filename*=', "t.csv"),
        ("filename*=UTF-8''", None),
        ('filename=""', ""),
    ],
)
def test_a_name_in_the_extended_form_is_taken(told: str, name: str | None) -> None:
    assert read(body((f'name="file"; {told}', b"")))[0][:2] == ("file", name)


@pytest.mark.parametrize("content_type", ["", "application/json", "multipart/form-data", "multipart/form-data; boundary=" + "x" * 300])
def test_a_body_of_another_type_is_refused(content_type: str) -> None:
    with pytest.raises(Refused) as refusal:
        read(body(('name="a"', b"b")), content_type=content_type)
    assert refusal.value.code == "invalid_form"


def test_a_body_that_breaks_off_is_refused() -> None:
    whole = body(('name="file"; filename="a"', b"x" * 100))
    for size in range(len(whole) - 4):
        with pytest.raises(Refused) as refusal:
            read(whole[:size])
        assert refusal.value.code == "upload_cut"


def test_malformed_headers_are_refused_without_their_bytes() -> None:
    with pytest.raises(Refused) as refusal:
        read(b"--bound\r\nSec\x01ret: x\r\n\r\ny\r\n--bound--\r\n")
    assert refusal.value.code == "invalid_form"
    assert "ret" not in refusal.value.message


def test_a_form_has_bounds() -> None:
    with pytest.raises(Refused):
        read(body(*[('name="a"', b"")] * (MAX_PARTS + 1)))
    with pytest.raises(Refused):
        [part.text() for part in Form(TYPE, [body(('name="a"', b"x" * (MAX_FIELD_BYTES + 1)))]).parts()]
    with pytest.raises(Refused):
        [part.text() for part in Form(TYPE, [body(('name="a"', b"\xff"))]).parts()]
