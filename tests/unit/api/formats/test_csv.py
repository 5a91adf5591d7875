"""CSV: quotes, line breaks, encodings, and records that cannot be read."""

import csv
import io
import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import Refused
from api.formats.csv import _Feed, csv_rows
from api.formats.limits import Columns, FileLimits
from db.failures import describe
from db.files.rows import NewRow

LIMITS = FileLimits(max_line_bytes=4096)


def read(data: bytes, columns: Columns | None = None, delimiter: str | None = None, chunk_bytes: int = 5) -> list[NewRow]:
    chunks = [data[start : start + chunk_bytes] for start in range(0, len(data), chunk_bytes)]
    return list(csv_rows(chunks, columns or Columns(), LIMITS, delimiter))


def inputs(rows: Sequence[NewRow]) -> list[bytes | str]:
    return [row.defect or row.body or b"" for row in rows]


def test_columns_are_found_by_their_usual_names() -> None:
    rows = read(b"id,text,label,more\n1,hello,x,y\n2,world,,\n")
    assert [(row.line, row.custom_id, row.body) for row in rows] == [
        (2, "1", b'{"input":"hello","label":"x"}'),
        (3, "2", b'{"input":"world"}'),
    ]


def test_a_column_of_prompts_is_found_by_its_usual_name() -> None:
    [row] = read(b"id,prompt\n1,Write a line.\n")
    assert row.body == b'{"input":"Write a line."}'


def test_columns_are_found_by_given_names() -> None:
    [row] = read(b"a;b;c\n1;hello;x\n", Columns(text="b", id="c", label="a"), ";")
    assert (row.custom_id, row.body) == ("x", b'{"input":"hello","label":"1"}')


def test_quotes_and_line_breaks_inside_a_field_are_text() -> None:
    rows = read(b'text,id\r\n"a ""quoted""\r\nsecond line, with comma",1\r\n\r\nnext,2\r\n')
    assert [(row.line, row.custom_id, row.body) for row in rows] == [
        (2, "1", b'{"input":"a \\"quoted\\"\\r\\nsecond line, with comma"}'),
        (5, "2", b'{"input":"next"}'),
    ]


def test_a_byte_order_mark_is_no_part_of_the_first_column() -> None:
    assert inputs(read(b"\xef\xbb\xbftext\ncaf\xc3\xa9")) == ['{"input":"café"}'.encode()]


def test_a_missing_column_is_told_by_the_names_that_were_looked_for() -> None:
    with pytest.raises(Refused) as refusal:
        read(b"secret-heading,other\nx,y\n")
    assert (refusal.value.code, refusal.value.param, refusal.value.status) == ("missing_text_column", "text_column", 400)
    assert "text" in refusal.value.message
    assert "input" in refusal.value.message
    assert "it has “secret-heading”, “other”" in refusal.value.message
    with pytest.raises(Refused, match="“nope”"):
        read(b"text,id\nx,y\n", Columns(id="nope"))
    with pytest.raises(Refused, match="“label”"):
        read(b"text,id\nx,y\n", Columns(label_required=True))


def test_a_record_that_cannot_be_read_fails_alone() -> None:
    assert inputs(read(b'text,id\na,1\nb,2,3\n"c"d,4\ne\xff,5\nf\ng\x00,6\nh,7\n')) == [
        b'{"input":"a"}',
        "wrong_cell_count::3|2",
        "stray_quote",
        "invalid_utf8",
        b'{"input":"f"}',
        "nul_character:input",
        b'{"input":"h"}',
    ]


def test_a_record_without_the_text_column_fails_alone() -> None:
    assert inputs(read(b"id,text\n1\n2,b\n")) == ["wrong_cell_count::1|2", b'{"input":"b"}']


def test_a_quote_that_is_never_closed_swallows_nothing() -> None:
    rows = read(b'text,id\na,1\n"open,2\nb,3\nc,4\n')
    assert [(row.line, row.defect or row.custom_id) for row in rows] == [(2, "1"), (3, "stray_quote"), (4, "3"), (5, "4")]


def test_a_field_over_the_limit_fails_alone() -> None:
    rows = read(b"text,id\n" + b"x" * 5000 + b",1\nb,2\n" + b'"' + b"long\n" * 2000 + b'",3\nd,4\n', chunk_bytes=999)
    assert [row.defect for row in rows[:2]] == ["line_too_long", None]
    assert rows[2].defect == "line_too_long"
    assert rows[-1].custom_id == "4"


def test_numbered_ids_and_training_labels() -> None:
    rows = read(b"text,label\na,1\nb,\n", Columns(label_required=True))
    assert inputs(rows) == [b'{"input":"a","label":"1"}', "missing_label"]


def test_utf16_is_refused_as_a_whole() -> None:
    with pytest.raises(Refused) as refusal:
        read("text\nhello\n".encode("utf-16"))
    assert refusal.value.code == "not_utf8"


text = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), min_size=1, max_size=30)


@given(st.lists(text, max_size=20), st.sampled_from(["\n", "\r\n"]), st.integers(1, 50))
def test_what_a_csv_writer_wrote_is_read_back(texts: list[str], ending: str, chunk_bytes: int) -> None:
    written = io.StringIO(newline="")
    writer = csv.writer(written, lineterminator=ending, quoting=csv.QUOTE_ALL)
    writer.writerow(["text", "n"])
    writer.writerows([content, number] for number, content in enumerate(texts))
    rows = read(written.getvalue().encode(), Columns(id="n"), chunk_bytes=chunk_bytes)
    assert [row.defect for row in rows] == [None] * len(texts)
    assert [row.size for row in rows] == [len(content) for content in texts]
    assert [row.custom_id for row in rows] == [str(number) for number in range(len(texts))]


@pytest.mark.parametrize(
    "data",
    [
        b"id;text\n1;rates, again\n",
        b"id\ttext\n1\trates, again\n",
        b"id|text|note\r\n1|rates, again|\r\n",
        b"\xef\xbb\xbfid;text\n1;rates, again\n",
        b'"id";"text"\n"1";"rates, again"\n',
        b"\n\nid;text\n1;rates, again\n",
        b'id, text\n1, "rates, again"\n',
        b' ID , Text \n1,"rates, again"\n',
        b'note,TEXT,Id\nx,"rates, again",1\n',
        b"a,b;id;text\nx;1;rates, again\n",
        b"sep=;\r\nid;text\r\n1;rates, again\r\n",
        b'\xef\xbb\xbfsep=,\nid,text\n1,"rates, again"\n',
        b"SEP=\t\nid\ttext\n1\trates, again\n",
        b'"sep=|"\nid|text\n1|rates, again\n',
        b'  \n\t\nid,text\n1,"rates, again"\n',
        b',,\n,,\nid,text,\n1,"rates, again",\n',
        b";\nid;text\n1;rates, again\n",
        b'""\nid;text\n1;rates, again\n',
        b'"\n",id,text\nx,1,"rates, again"\n',
        b'\xef\xbb\xbf\xef\xbb\xbfid,text\n1,"rates, again"\n',
        'id,\u00a0text\u200b\n1,"rates, again"\n'.encode(),
    ],
)
def test_delimiter_and_header_are_understood_as_people_write_them(data: bytes) -> None:
    assert [(row.custom_id, row.body) for row in read(data)] == [("1", b'{"input":"rates, again"}')]


@pytest.mark.parametrize(
    "data",
    [
        b"id;text;note\n1;'rates; \"again\"';x\n2;'b';y\n",  # single quotes
        b"id,note,text\n1,'a, b','rates; \"again\"'\n2,c,'d, e'\n",
        b'id,text,n\n1,"rates; \\"again\\"",x\n',  # as MySQL and Spark write a quote inside a cell
        b"id,text,n\n1,'rates; \"again\"','it\\'s, well'\n",
        b'# made by a tool\nid,text\n1,"rates; ""again"""\n',
        b'Report of May\n"by, whoever"\n\nid,text,n\n1,"rates; ""again""",x\n',
        b'Report of May,,\nid,note,n,text\n1,,,"rates; ""again"""\n',
    ],
)
def test_quotes_and_titles_are_understood_as_programs_write_them(data: bytes) -> None:
    assert (read(data)[0].custom_id, read(data)[0].body) == ("1", b'{"input":"rates; \\"again\\""}')


@pytest.mark.parametrize(
    "text",
    [
        "it's a \\ backslash",  # outside of quotes
        "'tis the season",
        "a 'quoted' word, and 'another'",
        "'all of it'",
        'C:\\"new"',
        "ends in a backslash \\",
    ],
)
def test_what_a_csv_writer_wrote_is_not_taken_for_another_dialect(text: str) -> None:
    written = io.StringIO()
    csv.writer(written).writerows([["id", "text"], ["1", text], ["2", "plain"], ["3", f"{text}, {text}"]])
    rows = read(written.getvalue().encode())
    assert [json.loads(row.body or b"{}").get("input") for row in rows] == [text, "plain", f"{text}, {text}"]


def test_a_row_that_holds_a_column_s_name_is_no_header() -> None:
    with pytest.raises(Refused, match="no column"):
        read(b"1,the news\n2,text\n3,more\n")


def test_how_cells_are_quoted_is_seen_by_the_beginning_alone() -> None:
    plain = b"".join(b"%d,'word, %d'\n" % (row, row) for row in range(10_000))
    rows = read(b"id,text\n" + plain + b"x,'it''s, and more'\n", chunk_bytes=5_000)
    assert (rows[9].body, rows[-1].custom_id, rows[-1].body) == (b'{"input":"word, 9"}', "x", b'{"input":"it\'s, and more"}')


def test_a_delimiter_that_is_given_is_not_second_guessed() -> None:
    with pytest.raises(Refused, match="“id;text”"):
        read(b"id;text\n1;a\n", delimiter=",")


@pytest.mark.parametrize(
    ("data", "columns"),
    [
        (b"id,text,text\n1,a,b\n", Columns()),
        (b"id, text,text \n1,a,b\n", Columns()),
        (b"id,id,text\n1,2,a\n", Columns()),
        (b"a,a\n1,2\n", Columns(text="a")),
        (b"label,text,label\n1,a,2\n", Columns(label_required=True)),
    ],
)
def test_a_column_that_is_there_twice_is_refused_before_a_row_is_read(data: bytes, columns: Columns) -> None:
    with pytest.raises(Refused, match="is there twice") as refusal:
        read(data, columns)
    assert (refusal.value.code, refusal.value.status) == ("duplicate_column", 400)


def test_a_column_that_is_there_twice_and_that_nobody_asks_for_harms_nobody() -> None:
    [row] = read(b"note,note,text\n1,2,a\n")
    assert row.body == b'{"input":"a"}'


def test_two_columns_of_one_name_in_other_cases_are_not_guessed_between() -> None:
    with pytest.raises(Refused, match="it has “Text”, “TEXT”"):
        read(b"Text,TEXT\na,b\n")


@pytest.mark.parametrize("ending", [b",", b",,", b",,,,,"])
def test_empty_cells_behind_a_record_harm_nobody(ending: bytes) -> None:
    [row] = read(b"id,text\n1,goal" + ending + b"\n")
    assert row.body == b'{"input":"goal"}'


def test_a_record_that_does_not_fit_says_how_many_cells_it_has() -> None:
    assert describe(read(b"id,text\n1,a,b\n")[0].defect or "").message.startswith("The record has 3 cells, the header has 2")
    assert describe(read(b"id,text\n1\n")[0].defect or "").message.startswith("The record has 1 cell, the header has 2")
    assert "quote" in describe(read(b'id,text\n1,"a"b\n')[0].defect or "").message


@pytest.mark.parametrize("line", [b'x","\n', b'"\n', b'a,"b\n', b'",x"\n', b'"a"b\n'])
def test_what_stray_quotes_make_to_be_read_again_is_bounded(line: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line may begin a record that swallows all others: read again without end, a hundred kilobytes took minutes."""
    monkeypatch.setattr("api.formats.csv.AGAIN_BYTES", 0)
    asked = 0

    class Counted(_Feed):
        def __next__(self) -> str:
            nonlocal asked
            asked += 1
            return super().__next__()

    monkeypatch.setattr("api.formats.csv._Feed", Counted)
    lines = 2_000
    rows = list(csv_rows([b"id,text\n", line * lines], Columns(), FileLimits()))
    assert len(rows) <= lines
    assert asked < 5 * lines


def test_lines_that_a_stray_quote_swallowed_are_read_again_beyond_the_bound_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.formats.csv.AGAIN_BYTES", -10_000)
    rows = read(b'text,id\n"open,2\nb,3\nc,4\n')
    assert [row.defect or row.custom_id for row in rows] == ["stray_quote", "3", "4"]


def test_a_header_of_many_long_names_is_told_in_part() -> None:
    names = [f"column-{at}-{'x' * 60}" for at in range(30)]
    with pytest.raises(Refused) as refusal:
        read(",".join(names).encode() + b"\n1\n", chunk_bytes=999)
    assert refusal.value.message.count("“column-") == 20
    assert len(refusal.value.message) < 1_200


def test_a_missing_column_may_be_the_delimiter_s_fault() -> None:
    for data, delimiter in ((b"id:text\n1:a\n", ","), (b"id;body\n1;a\n", ";")):
        with pytest.raises(Refused, match=f"cells in the form field delimiter \\(“{delimiter}” was taken\\)"):
            read(data)
    with pytest.raises(Refused, match="“a tab” was taken"):
        read(b"id\tbody\n1\ta\n")


@pytest.mark.parametrize("data", [b"id,text\r1,a\r2,b\r", b"\xef\xbb\xbfid;text\r1;a", b'"id"\t"text"\r"1"\t"a"\r'])
def test_lines_that_end_in_carriage_returns_alone_are_named_as_such(data: bytes) -> None:
    with pytest.raises(Refused, match="carriage return") as refusal:
        read(data)
    assert refusal.value.code == "invalid_header"


@pytest.mark.parametrize(
    ("record", "custom_id"),
    [
        (b"7,a,b", "7"),
        (b"7", "7"),
        (b'7,"a" b', "7"),
        (b'"7","a" b', "7"),
        (b'7,"open', "7"),
        (b"7,caf\xe9", "7"),
        (b'"7,"a" b', None),
        (b'7"8,"a" b', None),
        (b"\xe9,a", None),
        (b"x" * 513 + b",a,b", None),
        (b'a\x00,"a" b', None),
        (b',"a" b', None),
    ],
)
def test_a_fault_in_a_record_costs_no_id_that_stands_before_it(record: bytes, custom_id: str | None) -> None:
    for delimiter in (b",", b";", b"\t"):
        rows = read((b"id,text\n" + record + b"\n8,b\n").replace(b",", delimiter), chunk_bytes=999)
        assert rows[0].defect is not None
        assert (rows[0].custom_id, rows[-1].custom_id) == (custom_id, "8")


def test_an_id_behind_the_text_is_not_guessed_where_the_cells_are_out_of_step() -> None:
    rows = read(b'text,id\nhello, world,7\n"a" b,7\n')
    assert [row.custom_id for row in rows] == [None, None]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_carriage_return_inside_a_cell_without_quotes_is_told_as_what_it_is(end: bytes) -> None:
    rows = read(end.join([b"id,text", b"1,a\r2,b", b"3,c", b'4,"d\re"', b""]))
    assert [(row.custom_id, row.defect) for row in rows] == [("1", "stray_carriage_return"), ("3", None), ("4", None)]
    assert "A carriage return stands inside a cell" in describe("stray_carriage_return").message


def test_a_record_with_too_few_cells_is_not_told_to_quote_more() -> None:
    assert describe("wrong_cell_count::1|2").message == "The record has 1 cell, the header has 2: the text's is missing."
    assert describe("wrong_cell_count::3|2").message.endswith("quote a text that holds the delimiter.")


def test_a_line_that_is_too_long_keeps_the_id_before_the_text() -> None:
    rows = read(b"id,text\n7," + b"x" * 5000 + b'\n8,"' + b"y" * 5000 + b'"\n9,z\n', chunk_bytes=700)
    assert [(row.custom_id, row.defect) for row in rows if row.custom_id] == [("7", "line_too_long"), ("8", "line_too_long"), ("9", None)]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("id,text,größe\n1,a,2\n".encode("latin-1"), "is not UTF-8"),
        (b'{"id":1,"text":"goal"}\n', "begins as JSON does"),
        (b'{"text":"goal"}\n', "begins as JSON does"),
        (b'[\n  {"text": "goal"}\n]\n', "begins as JSON does"),
        (b"PK\x05\x06" + bytes(18), "empty archive"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(18), "an archive"),
        (b"ARROW1\0\0" + bytes(18), "Feather"),
    ],
)
def test_what_is_no_csv_is_told_as_what_it_is(data: bytes, told: str) -> None:
    with pytest.raises(Refused, match=told):
        read(data)


def test_a_header_may_begin_with_a_bracket() -> None:
    [row] = read(b"[nr],text\n1,a\n")
    assert row.body == b'{"input":"a"}'
