"""JSON lines: what a good line becomes, what a bad one becomes, and that neighbours do not notice."""

import math
import time
import tracemalloc
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import Refused
from api.formats.jsonl import batch_rows, plain_rows
from api.formats.limits import Columns, FileLimits
from api.formats.lines import split_lines
from db.failures import FAILURES
from db.files.rows import NewRow

LIMITS = FileLimits(max_line_bytes=1 << 20)
GOOD = b'{"custom_id":"a","method":"POST","url":"/v1/classifications","body":{"input":"caf\xc3\xa9"}}'


def read(data: bytes, *, limits: FileLimits = LIMITS, chunk_bytes: int = 7) -> list[NewRow]:
    return list(batch_rows(cut(data, chunk_bytes), limits))


def cut(data: bytes, chunk_bytes: int) -> Iterator[bytes]:
    return (data[start : start + chunk_bytes] for start in range(0, len(data), chunk_bytes))


def line(**changes: object) -> bytes:
    fields = {"custom_id": "x", "method": "POST", "url": "/v1/classifications", "body": {"input": "t"}} | changes
    return msgspec.json.encode({name: value for name, value in fields.items() if value is not ...})


def test_a_good_line_keeps_its_body_verbatim() -> None:
    [row] = read(GOOD)
    assert row == NewRow(
        line=1, endpoint="/v1/classifications", defect=None, custom_id="a", body='{"input":"café"}'.encode(), size=len('{"input":"café"}')
    )


@given(st.from_regex(r"-?(0|[1-9][0-9]{0,9})(\.[0-9]{1,9})?([eE][+-]?[0-9]{1,4})?", fullmatch=True))
def test_a_number_that_no_double_can_hold_is_told_however_it_is_written(number: str) -> None:
    [row] = read(b'{"custom_id":"e","method":"POST","url":"/v1/classifications","body":{"input":"1E+","n":[%b]}}' % number.encode())
    assert row.defect == ("non_finite_number" if math.isinf(float(number)) else None)


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b""])
def test_lines_may_end_in_any_usual_way(ending: bytes) -> None:
    second = line(custom_id="b")
    data = GOOD + (ending or b"\n") + second + ending
    assert [(row.line, row.custom_id, row.defect) for row in read(data)] == [(1, "a", None), (2, "b", None)]


def test_a_byte_order_mark_is_no_content() -> None:
    [row] = read(b"\xef\xbb\xbf" + GOOD)
    assert (row.custom_id, row.defect) == ("a", None)


def test_blank_lines_are_skipped_and_counted() -> None:
    assert [row.line for row in read(b"\n  \n" + GOOD + b"\n\r\n" + line(custom_id="b"))] == [3, 5]


def test_a_million_blank_lines_are_no_rows() -> None:
    assert read(b"\n" * 1_000_000, chunk_bytes=65536) == []


DEFECTS: list[tuple[bytes, str]] = [
    (b'{"custom_id":', "invalid_json"),
    (b"not json", "invalid_json"),
    (GOOD + b" trailing", "invalid_json"),
    (b"[1,2]", "not_an_object"),
    (b"null", "not_an_object"),
    (b'"text"', "not_an_object"),
    (b'{"custom_id":"\xff","method":"POST","url":"/v1/classifications","body":{}}', "invalid_utf8"),
    (b'{"custom_id":"x","method":"POST","url":"/v1/classifications","body":{"input":"\xff"}}', "invalid_utf8"),
    (b'{"custom_id":"x","method":"POST","url":"/v1/classifications","body":{"input":"\xed\xa0\x80"}}', "invalid_utf8"),
    (b'{"custom_id":"x","method":"POST","url":"/v1/classifications","body":{"input":"a\x00b"}}', "nul_character"),
    (b'{"custom_id":"x","method":"POST","url":"/v1/classifications","body":{"input":"\\ud83d"}}', "lone_surrogate"),
    (b'{"custom_id":"x","method":"POST","url":"/v1/classifications","body":{"input":"\\ude00"}}', "lone_surrogate"),
    (b'{"custom_id":"x","method":"POST","url":"/v1/classifications","body":{"temperature":NaN}}', "non_finite_number"),
    (b'{"custom_id":"x","method":"POST","url":"/v1/classifications","body":{"temperature":-Infinity}}', "non_finite_number"),
    (b'{"custom_id":"x","method":"POST","url":"/v1/classifications","body":{"temperature":1e999}}', "non_finite_number"),
    (b'{"custom_id":"x","method":"POST","url":"/v1/classifications","body":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "too_deep"),
    (line(body={"input": [[[0]]], "labels": msgspec.Raw(b"[" * 80 + b"]" * 80)}), "too_deep"),
    (line(custom_id=...), "missing_custom_id"),
    (line(custom_id=None), "missing_custom_id"),
    (line(custom_id=7), "invalid_custom_id"),
    (line(custom_id=""), "invalid_custom_id"),
    (line(custom_id="x" * 513), "invalid_custom_id"),
    (line(custom_id="x\x00"), "invalid_custom_id"),
    (line(method="GET"), "wrong_method"),
    (line(method=...), "wrong_method"),
    (line(method=1), "wrong_method"),
    (line(url="/v1/other"), "wrong_url"),
    (line(url=...), "wrong_url"),
    (line(url="/v1/heads"), "wrong_url"),
    (line(body=...), "missing_body"),
    (line(body=None), "missing_body"),
    (line(body=[1]), "invalid_field"),
    (line(body="text"), "invalid_field"),
    (line(extra=1), "unknown_field"),
]


@pytest.mark.parametrize(("bad", "code"), DEFECTS)
def test_a_bad_line_gets_its_code_and_its_neighbours_go_on(bad: bytes, code: str) -> None:
    rows = read(GOOD + b"\n" + bad + b"\n" + line(custom_id="z"), chunk_bytes=65536)
    assert [row.line for row in rows] == [1, 2, 3]
    assert (rows[0].defect, rows[2].defect) == (None, None)
    defect = rows[1].defect
    assert defect is not None
    assert defect.partition(":")[0] == code
    assert code in FAILURES


def test_a_bad_line_is_kept_as_it_came_with_the_id_it_has() -> None:
    bad = line(custom_id="mine", method="PUT")
    [row] = read(bad)
    assert (row.custom_id, row.body) == ("mine", bad)


PLAIN = [
    (b'{"id":1,"text":NaN}', "1", "non_finite_number"),
    (b'{"id":3,"text":null}', "3", "missing_input"),
    (b'{"id":4,"text":42}', "4", "invalid_field:input:text|a number"),
    (b'{"id":5,"text":["a","b"]}', "5", "invalid_field:input:text|a list"),
    (b'{"id":"x","text":{"a":1}}', "x", "invalid_field:input:text|an object"),
    (b'{"id":7,"text":true}', "7", "invalid_field:input:text|true or false"),
    (b'{"id":8.5,"text":-1.5}', "8.5", "invalid_field:input:text|a number"),
    (b'{"id":9,"body":"x"}', "9", "missing_text_column"),
    (b'{"id":10,"text":"a","label":[1]}', "10", "invalid_field:label:text or a number"),
    (b'{"id":"cut","text":"and then the li', "cut", "invalid_json"),
    (b'{"id":12.0,"text":"caf\xe9"}', "12", "invalid_utf8"),
    (b'{"text":"a,"b","id":"late"}', "late", "invalid_json"),
    (b'{"id":6.0,"text":"Parliament votes"}', "6", None),
    (b'{"id":-0.50,"text":"a"}', "-0.50", None),
    (b'{"id":1e3,"text":"a"}', "1000", None),
    (b'{"id":1.5E+1,"text":"a"}', "15", None),
    (b'{"id":1e-5,"text":"a"}', "1e-5", None),
    (b'{"id":-0.0,"text":"a"}', "0", None),
    (b'{"id":1e400,"text":"a"}', "1e400", None),
    (b'{"id":1e999999999,"text":"a"}', "1e999999999", None),
    (b'{"id":12345678901234567890123456789.0,"text":"a"}', "12345678901234567890123456789", None),
    (b'{"id":true,"text":"a"}', "true", None),
    (b'{"id":9007199254740993,"text":"goal"}', "9007199254740993", None),
    (b'{"id":null,"text":"no id"}', None, None),
    (b'{"id":[1],"text":"no id"}', None, "invalid_custom_id"),
]


@pytest.mark.parametrize(
    ("body", "found"), [(b'"x"', "text"), (b"[1]", "a list"), (b"7", "a number"), (b"true", "true or false"), (b'"{}"', "text")]
)
def test_a_body_that_is_no_object_is_told_what_it_is(body: bytes, found: str) -> None:
    [row] = read(b'{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":' + body + b"}")
    assert (row.custom_id, row.defect) == ("a", f"invalid_field:body:an object|{found}")


@pytest.mark.parametrize(("line", "custom_id", "defect"), PLAIN)
def test_a_fault_in_a_plain_row_costs_no_id_and_says_what_was_found(line: bytes, custom_id: str | None, defect: str | None) -> None:
    row = plain(line + b'\n{"text":"another"}')[0]
    assert row.custom_id == custom_id
    assert row.defect == defect


CHAT = [{"role": "user", "content": "Capital of France?"}]


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ({"id": "c1", "messages": CHAT}, {"messages": CHAT}),
        ({"messages": CHAT, "text": "the same, rendered", "temperature": 0.5}, {"messages": CHAT, "temperature": 0.5}),
        ({"prompt": "one, two,", "stop": ["five"], "max_tokens": 20}, {"input": "one, two,", "stop": ["five"], "max_tokens": 20}),
        ({"input": "one", "seed": 3, "top_p": None}, {"input": "one", "seed": 3}),
        ({"text": "rain", "temperature": 31.5, "stop": "Main Street"}, {"input": "rain"}),
        ({"prompt": "one", "price": 3, "label": "x"}, {"input": "one", "label": "x"}),
    ],
)
def test_a_plain_row_keeps_what_it_asks_of_a_generation(fields: dict[str, object], body: dict[str, object]) -> None:
    [row] = plain_rows([msgspec.json.encode(fields)], Columns(), LIMITS)
    assert row.defect is None
    assert msgspec.json.decode(row.body or b"") == body


def test_a_named_column_is_the_text_and_the_rest_is_data() -> None:
    [row] = plain_rows([msgspec.json.encode({"prompt": "one", "temperature": 31.5})], Columns(text="prompt"), LIMITS)
    assert row.body == b'{"input":"one"}'
    rows = plain_rows([msgspec.json.encode({"messages": CHAT}), b'\n{"body":"x"}'], Columns(text="body"), LIMITS)
    assert [row.defect for row in rows] == ["missing_text_column", None]


BAD_BODIES = [
    rb'{"model":"m","input":NaN}',
    rb'{"model":"m","input":"x",}',
    b'{"model":"m","input":"caf\xe9"}',
    b'{"model":"m","input":"a\x00b"}',
    b'{"model":"m","input":"tab\there"}',
    rb'{"model":"m","input":"bad \q escape"}',
    rb"{'model':'m','input':'single quotes'}",
    rb'{"model":"m","input":"a \"custom_id\": \"other\", b" oops}',
    rb'{"model":"m" "input":"x"}',
    rb'{"model":"m","input":undefined}',
    rb'{"model":"m","input":[1,2}',
    rb'{"model":"m","metadata":{"custom_id":"inner"},"input":-Infinity}',
    rb'{"model":"m","input":"say "hi" now"}',
]


@pytest.mark.parametrize("body", BAD_BODIES)
@pytest.mark.parametrize("first", [True, False])
def test_a_fault_in_the_body_never_costs_a_legible_id(body: bytes, first: bool) -> None:
    head, rest = rb'"custom_id":"mine"', rb'"method":"POST","url":"/v1/embeddings","body":' + body
    [row] = read(b"{" + (head + b"," + rest if first else rest + b"," + head) + b"}")
    assert (row.custom_id, row.line) == ("mine", 1)
    assert row.defect is not None


@pytest.mark.parametrize(
    ("bad", "custom_id"),
    [
        (rb'{"custom_id":"caf\u00e9","body":{"input":NaN}}', "café"),
        (rb'{"custom_id" : "spaced" , "body":{"input":NaN}}', "spaced"),
        (rb'{"custom_id":"cut","method":"POST","url":"/v1/embeddings","body":{"input":"and then the li', "cut"),
        (rb'{"custom_id":7,"body":{"input":NaN}}', None),
        (rb'{"custom_id":"","body":{"input":NaN}}', None),
        (b'{"custom_id":"\xff","body":{"input":NaN}}', None),
        (rb'{"body":{"input":"\"custom_id\":\"spelled\",", NaN}}', None),
        (rb'{"body":{"input":"}","custom_id":"one"},"x" {"custom_id":"two"}', None),
        (rb'no object, "custom_id":"x",', "x"),
        (b'{"custom_id":"deep","body":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "deep"),
    ],
)
def test_an_id_is_read_out_of_a_broken_line_where_there_is_one(bad: bytes, custom_id: str | None) -> None:
    [row] = read(bad, chunk_bytes=65536)
    assert row.custom_id == custom_id


def test_the_search_for_an_id_takes_no_longer_than_the_line() -> None:
    bad = b'{"body":' + b'{"custom_id":' * 300_000
    began = time.process_time()
    [row] = read(bad, limits=FileLimits(max_line_bytes=8 << 20), chunk_bytes=1 << 20)
    assert row.custom_id is None
    assert time.process_time() - began < 2


def test_members_that_are_null_are_none() -> None:
    [row] = read(line(metadata=None, response=None))
    assert (row.custom_id, row.defect, row.body) == ("x", None, b'{"input":"t"}')


def test_a_member_that_is_not_known_is_told_with_those_that_are() -> None:
    [row] = read(line(priority=3))
    assert (row.custom_id, row.defect) == ("x", "unknown_field::custom_id, method, url, body")


def test_surrogate_pairs_and_line_separators_are_text() -> None:
    [row] = read(line(body=msgspec.Raw(b'{"input":"\\ud83d\\ude00 \xe2\x80\xa8"}')))
    assert row.defect is None


def test_text_that_only_looks_bad_is_text() -> None:
    body = b'{"input":"NaN, [ 1e999 ' + b"{[" * 200 + b'"}'
    [row] = read(line(body=msgspec.Raw(body)))
    assert (row.defect, row.body) == (None, body)


def test_a_line_over_the_limit_is_one_failed_row_and_is_not_held() -> None:
    def chunks() -> Iterator[bytes]:
        yield GOOD + b"\n" + b'{"custom_id":"'
        for _ in range(1600):
            yield b"x" * 65536  # 100 MiB in all
        yield b'"}\n' + line(custom_id="z")

    tracemalloc.start()
    rows = list(batch_rows(chunks(), LIMITS))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [(row.line, row.defect) for row in rows] == [(1, None), (2, "line_too_long"), (3, None)]
    assert peak_bytes < 4 << 20


@pytest.mark.parametrize(
    ("start", "code"),
    [
        (GOOD.decode().encode("utf-16"), "not_utf8"),
        (GOOD.decode().encode("utf-16-le"), "not_utf8"),
        (GOOD.decode().encode("utf-16-be"), "not_utf8"),
        (GOOD.decode().encode("utf-32"), "not_utf8"),
        (b"\x1f\x8b\x08\x00rest", "compressed_file"),
        (b"PK\x03\x04rest", "compressed_file"),
        (b"PAR1rest", "wrong_format"),
    ],
)
def test_a_file_that_is_no_utf8_text_is_refused_as_a_whole(start: bytes, code: str) -> None:
    with pytest.raises(Refused) as refusal:
        read(start, chunk_bytes=1)
    assert (refusal.value.code, refusal.value.status) == (code, 400)


@given(st.lists(st.binary(max_size=40)), st.integers(1, 30))
def test_lines_do_not_depend_on_how_the_bytes_were_cut(pieces: list[bytes], chunk_bytes: int) -> None:
    data = b"\n".join(pieces)
    expected = data.split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    assert list(split_lines(cut(data, chunk_bytes), 1000)) == list(enumerate(expected, start=1))


@given(st.lists(st.binary(max_size=60)), st.integers(1, 80))
def test_whatever_is_sent_each_line_that_is_not_blank_is_one_row(pieces: list[bytes], chunk_bytes: int) -> None:
    data = b"{}\n" + b"\n".join(pieces)
    rows = read(data, chunk_bytes=chunk_bytes)
    assert [row.line for row in rows] == [number for number, piece in enumerate(data.split(b"\n"), start=1) if piece.strip()]
    assert all(row.defect is not None and row.defect.partition(":")[0] in FAILURES for row in rows)


def plain(data: bytes, columns: Columns | None = None) -> list[NewRow]:
    return list(plain_rows([data], columns or Columns(), LIMITS))


def test_plain_lines_become_bodies_with_input_and_label() -> None:
    rows = plain(b'{"id": "a", "text": "one", "label": "x", "title": "left aside"}\n{"input": "two", "id": 7}\n{"text": "three"}')
    assert [(row.custom_id, row.body, row.endpoint) for row in rows] == [
        ("a", b'{"input":"one","label":"x"}', None),
        ("7", b'{"input":"two"}', None),
        (None, b'{"input":"three"}', None),
    ]


def test_plain_lines_take_named_fields() -> None:
    [row] = plain(b'{"text": "wrong", "headline": "right", "class": 3, "key": "k"}', Columns(text="headline", label="class", id="key"))
    assert (row.custom_id, row.body) == ("k", b'{"input":"right","label":"3"}')


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (b'{"title": "no text"}', "missing_text_column"),
        (b'{"text": null}', "missing_input"),
        (b'{"text": 5}', "invalid_field:input:text|a number"),
        (b'{"text": ["a"]}', "invalid_field:input:text|a list"),
        (b'{"text": "a", "id": {}}', "invalid_custom_id"),
        (b'{"text": "a", "label": [1]}', "invalid_field:label:text or a number"),
        (b'{"text": "a\\u0000"}', "nul_character:input"),
        (b'{"text": "a\xff"}', "invalid_utf8"),
        (b'{"text": "\\ud800"}', "lone_surrogate"),
        (b"[1]", "not_an_object"),
        (b"{", "invalid_json"),
    ],
)
def test_a_bad_plain_line_gets_its_code(bad: bytes, code: str) -> None:
    assert [row.defect for row in plain(b'{"text":"a"}\n' + bad + b'\n{"text":"b"}')] == [None, code, None]


def test_a_training_line_needs_a_label() -> None:
    assert [row.defect for row in plain(b'{"text":"a"}\n{"text":"b","label":"x"}', Columns(label_required=True))] == ["missing_label", None]


@pytest.mark.parametrize(
    "data",
    [
        b'[{"id": 0, "text": "a"}, {"id": 1, "text": "b"}]',
        b'[\n  {"id": 0, "text": "a"}\n]\n',
        b'\xef\xbb\xbf\r\n [{"id": 0}]',
        b"[]",
    ],
)
def test_an_array_is_seen_once_with_the_command_that_makes_lines_of_it(data: bytes) -> None:
    for read in (lambda: list(plain_rows([data], Columns(), FileLimits())), lambda: list(batch_rows([data], FileLimits()))):
        with pytest.raises(Refused, match="jq -c") as refusal:
            read()
        assert refusal.value.code == "json_array"


def refusal_of(data: bytes, columns: Columns | None = None) -> Refused:
    with pytest.raises(Refused) as refusal:
        plain(data, columns)
    return refusal.value


@pytest.mark.parametrize(
    "data",
    [
        b'{\n  "id": 0,\n  "text": "a"\n}\n',
        b'\xef\xbb\xbf\r\n{\r\n\t"text": "a"\r\n}\r\n',
        b'{"id": 0,\n"text": "a"}\n',
        b'{ "id": 0\n, "text": "a" }\n',
        b'{"body": {\n}}',
        b'{"text":\n"a"}',
        b'{"id": 0, "text": "a"\n}\n{"id": 1, "text": "b"\n}\n',
        b'{"text":"a"}{"text":"b"}\n',
        b'{"text":"a"} {"text":"b"}',
    ],
)
def test_objects_over_several_lines_or_several_in_a_line_are_seen_once(data: bytes) -> None:
    refusal = refusal_of(data)
    assert refusal.code == "multiline_json"
    assert "one object a line" in refusal.message
    assert "`jq -c . FILE > FILE.jsonl`" in refusal.message


@pytest.mark.parametrize("data", [b'{"text":"a"},\n{"text":"b"}\n', b'{"text":"a"} ,\r\n{"text":"b"},\r\n', b'\n{"text":"a"},\n'])
def test_objects_with_commas_between_are_seen_once(data: bytes) -> None:
    assert (refusal_of(data).code, "comma" in refusal_of(data).message) == ("json_commas", True)


@pytest.mark.parametrize("data", [b"id,text\n1,a\n", b"id;text\n1;a\n", b"hello\nworld\n", b"\n\n1\n2\n", b'"a"\n"b"\n', b"---\nid: 1\n"])
def test_what_is_no_json_at_all_is_seen_once(data: bytes) -> None:
    refusal = refusal_of(data)
    assert (refusal.code, refusal.param) == ("not_json_lines", "file")
    assert "format" in refusal.message


@pytest.mark.parametrize(
    "data",
    [
        b'{"text": "a",\n{"text": "b"}\n',
        b'{"text": "a\n{"text": "b"}\n',
        b'oops\n{"text": "b"}\n',
        b'{"text": "a"}}\n{"text": "b"}\n',
        b'{"text": NaN}\n{"text": "b"}\n',
        b'{"id": 1, "text": "caf\xe9"}\n{"text": "b"}\n',
    ],
)
def test_a_first_line_that_is_broken_fails_alone(data: bytes) -> None:
    first, second = plain(data)
    assert first.defect is not None
    assert second.defect is None


def test_a_first_line_that_is_broken_fails_alone_before_another_that_is() -> None:
    assert [row.defect for row in plain(b'{"text": NaN}\noops\n{"text": "b"}\n')] == ["non_finite_number", "invalid_json", None]


def test_a_broken_line_further_on_fails_alone() -> None:
    rows = list(plain_rows([b'{"text": "a"}\n[1]\n{\n{"text": "b"}\n'], Columns(), FileLimits()))
    assert [row.defect for row in rows] == [None, "not_an_object", "invalid_json", None]


@pytest.mark.parametrize(
    ("data", "columns", "param"),
    [
        (b'{"id":1,"text":"a"}\n{"id":2,"text":"b"}\n', Columns(id="nope"), "id_column"),
        (b'{"id":1,"text":"a"}\n{"id":2,"text":"b"}\n', Columns(text="nope"), "text_column"),
        (b'{"id":1,"text":"a"}\n{"id":2,"text":"b"}\n', Columns(label="nope"), "label_column"),
        (b'{"id":1,"text":"a"}\n', Columns(label_required=True), "label_column"),
        (b'{"id":1,"body":"a"}\n{"id":2,"body":"b"}\n', Columns(), "text_column"),
        (b'\xef\xbb\xbf\r\n{"id":1,"body":"a"}\r\n{broken\r\n', Columns(), "text_column"),
        (b'{"id":1,"messages":[]}\n', Columns(text="nope"), "text_column"),
    ],
)
def test_a_column_that_no_line_has_is_refused_once_as_in_every_format(data: bytes, columns: Columns, param: str) -> None:
    refusal = refusal_of(data, columns)
    assert (refusal.param, refusal.status) == (param, 400)
    assert refusal.code == ("missing_text_column" if param == "text_column" else "missing_column")
    assert "it has “id”, “" in refusal.message


@pytest.mark.parametrize(
    ("data", "columns"),
    [
        (b'{"text":"a"}\n{"key":2,"text":"b"}\n', Columns(id="key")),
        (b'{"text":"a"}\n{"text":"b","key":null}\n', Columns(id="key")),
        (b'{"other":"a"}\n{"text":"b"}\n', Columns()),
        (b'{"other":"a"}\n{"messages":[]}\n', Columns()),
        (b"{broken\n{broken too\n", Columns(id="key")),
    ],
)
def test_a_column_that_some_line_has_or_that_none_could_have_is_not_refused(data: bytes, columns: Columns) -> None:
    assert len(plain(data, columns)) == 2


@pytest.mark.parametrize(
    ("first", "told"),
    [
        (b'{"ID":"a","Text":"x"}', "a"),
        (b'{"id ":"a"," text":"x"}', "a"),
        (b'{"Custom_ID":"a","PROMPT":"x"}', "a"),
        (b'{"Input":"x"}', None),
    ],
)
def test_names_are_found_whatever_their_case_and_spaces_as_in_a_csv(first: bytes, told: str | None) -> None:
    broken = first.replace(b'"x"}', b'"x"') + b"\n"
    rows = list(plain_rows([first + b"\n" + broken + first.replace(b'"x"', b'"y"')], Columns(), LIMITS))
    assert [(row.custom_id, row.defect, row.body) for row in (rows[0], rows[2])] == [
        (told, None, b'{"input":"x"}'),
        (told, None, b'{"input":"y"}'),
    ]
    assert (rows[1].custom_id, rows[1].defect) == (told, "invalid_json")


def test_a_name_as_it_is_looked_for_counts_before_one_of_another_case() -> None:
    [first, second] = plain_rows([b'{"Text":"a","n":1}\n{"Text":"b","text":"c"}\n'], Columns(), LIMITS)
    assert (first.body, second.body) == (b'{"input":"a"}', b'{"input":"c"}')


def test_an_option_names_a_field_whatever_its_case() -> None:
    [row] = plain_rows([b'{"Key":"k","Body":"a"}\n'], Columns(text="body", id="key"), LIMITS)
    assert (row.custom_id, row.body) == ("k", b'{"input":"a"}')


def test_a_line_that_is_too_long_keeps_its_id() -> None:
    limits = FileLimits(max_line_bytes=100)
    long = b"x" * 5000
    [row] = plain_rows(cut(b'{"id":7,"text":"' + long + b'"}', 33), Columns(), limits)
    assert (row.custom_id, row.defect, row.body) == ("7", "line_too_long", None)
    [row] = batch_rows(cut(b'{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{"input":"' + long + b'"}}', 4096), limits)
    assert (row.custom_id, row.defect) == ("a", "line_too_long")
    [row] = plain_rows([b'{"text":"' + long + b'","id":7}'], Columns(), limits)
    assert (row.custom_id, row.defect) == (None, "line_too_long")


def test_an_array_in_one_line_is_told_however_long_it_is() -> None:
    with pytest.raises(Refused) as refusal:
        list(plain_rows([b'[{"id":7,"text":"' + b"x" * 5000 + b'"}]'], Columns(), FileLimits(max_line_bytes=100)))
    assert refusal.value.code == "json_array"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"{'id': 1, 'text': 'goal'}\n{'id': 2, 'text': 'bank'}\n", "python_objects"),
        (b'{"id":[1,2],"text":["goal","bank"]}', "json_columns"),
        (b'{"id":{"0":1},"text":{"0":"goal"}}', "json_columns"),
        (b'{"data":[{"id":1,"text":"goal"}]}', "json_columns"),
    ],
)
def test_objects_that_are_no_rows_are_told_once(data: bytes, code: str) -> None:
    with pytest.raises(Refused) as refusal:
        list(plain_rows([data], Columns(), LIMITS))
    assert refusal.value.code == code


def test_one_chat_is_a_row() -> None:
    [row] = plain_rows([b'{"messages":[{"role":"user","content":"a"}]}'], Columns(), LIMITS)
    assert row.defect is None


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b'{"custom_id":"a","custom_id":"b","method":"POST","url":"/v1/classifications","body":{"input":"t"}}', "repeated_field:custom_id"),
        (b'{"custom_id":"a","method":"POST","url":"/v1/classifications","body":{"input":"t"},"body":{"input":"u"}}', "repeated_field:body"),
        (b'{"custom_id":"a","method":"POST","url":"/v1/classifications","body":{"input":"t","input" : "u"}}', None),
        (
            b'{"custom_id":"a","method":"POST","url":"/v1/classifications","body":{"input":"t","labels":["a"],"labels":[]}}',
            None,
        ),
        (
            b'{"custom_id":"a","method":"POST","url":"/v1/classifications","body":{"model":"m","input":"t","model" :"n"}}',
            None,
        ),
        (b'{"custom_id":"a","method":"POST","url":"/v1/completions","body":{"prompt":"t","prompt":"u"}}', None),
        (
            b'{"custom_id":"a","method":"POST","url":"/v1/completions","body":{"prompt":"t","max_tokens":1,"max_tokens":2}}',
            None,
        ),
        (b'{"custom_id":"a","method":"POST","url":"/v1/classifications","body":{"input":"t","\\u0069nput":"u"}}', None),
        (
            b'{"custom_id":"a","custom_id":"b","id":null,"method":"POST","url":"/v1/classifications","body":{"input":"t"}}',
            "repeated_field:custom_id",
        ),
        (
            b'{"id":null,"custom_id":"a","method":"POST","url":"/v1/classifications","body":{"input":"t","input":"u"}}',
            None,
        ),
        (b'{"custom_id":"body","method":"POST","url":"/v1/classifications","body":{"input":"input","labels":["input","b"]}}', None),
        (b'{"custom_id":"a","method":"POST","url":"/v1/classifications","body":{"input":"\\"input\\": 1, \\"input\\": 2"}}', None),
    ],
)
def test_a_field_that_a_batch_line_has_twice_is_refused_and_not_the_last_taken(text: bytes, code: str | None) -> None:
    (row,) = read(text)
    assert row.defect == code
    assert row.body == (text if code else text[text.index(b'"body":') + 7 : -1])


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b'{"id":"a","text":"t","text":"u"}', "repeated_field:text"),
        (b'{"id":"a","id":"b","text":"t"}', "repeated_field:id"),
        (b'{"text":"first","text" :"second"}', "repeated_field:text"),
        (b'{"text":"a","text":"b","n" :1}', "repeated_field:text"),
        (b'{"Text":"a","Text":"b"}', "repeated_field:text"),
        (b'{"ID":"a","text":"t","ID":"b"}', "repeated_field:id"),
        (b'{"\\u0074ext":"a","text":"t"}', "repeated_field:text"),
        (b'{"prompt":"a","max_tokens":1,"max_tokens":2}', "repeated_field:max_tokens"),
        (b'{"text":"a","meta":{"id":1,"id":2}}', None),
        (b'{"text":"a","meta":{"text":1},"list":[{"text":1,"text":2}]}', None),
        (b'{"text":"a: \\"text\\": b","other":"text"}', None),
        (b'{"id":"text","text":"t","other":"text"}', None),
        (b'{"id":"a","text":"t","other":1,"other":2}', None),
    ],
)
def test_a_field_that_a_plain_line_has_twice_is_refused_where_it_is_used(text: bytes, code: str | None) -> None:
    (row,) = plain_rows([text], Columns(), LIMITS)
    assert row.defect == code


def test_a_column_that_the_user_chose_is_told_by_what_it_is_for() -> None:
    """Its name is the user's own, and a failure code lies open in the database."""
    (row,) = plain_rows([b'{"Befund":"a","Befund":"b"}'], Columns(text="Befund"), LIMITS)
    assert row.defect == "repeated_field:input"
