"""Files in every format, masked."""

import csv
import gzip
import json
import re
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from api.cli import run

EMAIL, CARD = "anna@example.com", "4111 1111 1111 1111"
MASK = r"\[EMAIL:[a-z2-7]{12}\]"


def redact(tmp_path: Path, name: str, content: bytes, *options: str, out: str | None = None) -> tuple[int, Path]:
    source, target = tmp_path / name, tmp_path / (out or f"out-{name.removesuffix('.gz')}")
    source.write_bytes(content)
    return run(["redact", str(source), "-o", str(target), *options]), target


def as_parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    parquet.write_table(table, sink)
    return bytes(sink.getvalue().to_pybytes())


def test_a_csv_keeps_its_delimiter_its_line_ends_and_what_is_not_sensitive(tmp_path: Path) -> None:
    code, out = redact(tmp_path, "in.csv", f'id;who;note\r\n1;{EMAIL};"a;b"\r\n2;;"{EMAIL}\nx"\r\n'.encode())
    assert code == 0
    text = out.read_bytes().decode()
    assert re.fullmatch(rf'id;who;note\r\n1;({MASK});"a;b"\r\n2;;"\1\nx"\r\n', text)


def test_a_title_above_the_header_is_masked_and_stays(tmp_path: Path) -> None:
    code, out = redact(tmp_path, "in.csv", f"Report for {EMAIL}\nid,text\n1,a\n".encode())
    title, *rest = out.read_text().splitlines()
    assert (code, rest) == (0, ["id,text", "1,a"])
    assert title.startswith("Report for ")
    assert EMAIL not in title


@pytest.mark.parametrize("content", [b"id;text;n\n1;'a; b';x\n2;'c; d';y\n", b'"id","text"\n"1","a \\"b\\", c"\n'])
def test_a_csv_keeps_the_way_its_cells_are_quoted(tmp_path: Path, content: bytes) -> None:
    code, out = redact(tmp_path, "in.csv", content)
    assert (code, out.read_bytes()) == (0, content)


def test_a_csv_without_a_header_or_with_bytes_of_another_code_page_comes_through(tmp_path: Path) -> None:
    code, out = redact(tmp_path, "in.csv", f"{EMAIL},M\xfcller\n".encode("latin-1") + b"x,y\n")
    assert code == 0
    assert re.fullmatch(MASK.encode() + b",M\xfcller\nx,y\n", out.read_bytes())


def test_of_json_lines_every_text_is_masked_and_the_rest_is_as_it_was_written(tmp_path: Path) -> None:
    line = {"id": 7, "text": f"to {EMAIL}", "chat": [{"content": CARD}], "x": None}
    content = json.dumps(line)[:-1].encode() + b', "n": 1.10, "big": 123456789012345678901234567890}\n\n"bob@example.com"\n'
    code, out = redact(tmp_path, "in.jsonl", content)
    assert code == 0
    first, second = out.read_text().splitlines()
    assert EMAIL not in first
    assert CARD not in first
    assert '"n":1.10,"big":123456789012345678901234567890' in first
    assert re.fullmatch(rf"to {MASK}", json.loads(first)["text"])
    assert re.fullmatch(MASK, json.loads(second))


def test_a_line_that_is_no_json_is_left_out_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deep = b"[" * 5_000 + b"]" * 5_000
    code, out = redact(tmp_path, "in.jsonl", f'{{"text": "{EMAIL}"\n{{"text": "fine"}}\n'.encode() + b'{"text": "\xff"}\n' + deep, "--json")
    assert code == 1
    assert out.read_bytes() == b'{"text":"fine"}\n'
    assert json.loads(capsys.readouterr().out) == {"rows": 4, "left_out": 3, "masked": {}}


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": pa.array([EMAIL, None, "fine"], pa.large_string()),
            "kind": pa.array([EMAIL, "b", "b"]).dictionary_encode(),
            "many": pa.array([[EMAIL], [], None], pa.list_(pa.string())),
            "at": pa.array([1, 2, None], pa.timestamp("ns")),
            "n": pa.array([1.5, None, 2.5]),
        }
    )
    code, out = redact(tmp_path, "in.parquet", as_parquet(table))
    assert code == 0
    masked = parquet.read_table(out)
    assert masked.schema == table.schema
    assert masked.select(["at", "n"]) == table.select(["at", "n"])
    mask = masked["text"][0].as_py()
    assert re.fullmatch(MASK, mask)
    assert masked["text"].to_pylist() == [mask, None, "fine"]
    assert masked["kind"].to_pylist() == [mask, "b", "b"]
    assert masked["many"].to_pylist() == [[mask], [], None]


def test_texts_within_lists_maps_and_objects_are_masked_beside_what_is_none(tmp_path: Path) -> None:
    pairs = pa.map_(
        pa.string(), pa.struct([("s", pa.string()), ("d", pa.decimal128(38, 2)), ("b", pa.binary()), ("t", pa.timestamp("us"))])
    )
    row = [(EMAIL, {"s": CARD, "d": Decimal("4111111111111111.00"), "b": b"\xff\x00", "t": 5})]
    table = pa.table({"m": pa.array([row, None, []], pairs), "n": pa.array([[1], [], None])})
    code, out = redact(tmp_path, "in.parquet", as_parquet(table))
    assert code == 0
    masked = parquet.read_table(out)
    assert masked.schema == table.schema
    assert masked["n"] == table["n"]
    [(key, value)] = masked["m"][0].as_py()
    assert re.fullmatch(MASK, key)
    assert re.fullmatch(r"\[CARD:\w+\]", value.pop("s"))
    assert value == {name: told for name, told in table["m"][0].as_py()[0][1].items() if name != "s"}
    assert masked["m"].to_pylist()[1:] == [None, []]


def test_a_parquet_column_without_text_cannot_be_named(tmp_path: Path) -> None:
    content = as_parquet(pa.table({"a": [EMAIL], "n": [1]}))
    assert redact(tmp_path, "in.parquet", content, "--text-column", "n")[0] == 2
    code, out = redact(tmp_path, "in.parquet", content, "--text-column", "a")
    assert code == 0
    assert re.fullmatch(MASK, parquet.read_table(out)["a"][0].as_py())


def test_plain_lines_may_be_compressed(tmp_path: Path) -> None:
    code, out = redact(tmp_path, "in.txt.gz", gzip.compress(f"one\n\n{EMAIL}\r\n".encode()))
    assert code == 0
    assert re.fullmatch(rf"one\n\n{MASK}\r\n", out.read_bytes().decode())


@pytest.mark.parametrize("name", ["in.csv", "in.jsonl"])
def test_only_the_named_columns_and_kinds_are_masked(tmp_path: Path, name: str) -> None:
    row = {"a": f"{EMAIL} {CARD}", "b": EMAIL}
    content = json.dumps(row) if name == "in.jsonl" else f"a,b\n{row['a']},{row['b']}"
    code, out = redact(tmp_path, name, content.encode(), "--text-column", "a", "--kinds", "card")
    assert code == 0
    masked = json.loads(out.read_text()) if name == "in.jsonl" else next(csv.DictReader(out.open()))
    assert re.fullmatch(rf"{EMAIL} \[CARD:\w+\]", masked["a"])
    assert masked["b"] == EMAIL


def test_the_counts_are_told_and_no_value(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    redact(tmp_path, "in.txt", f"{EMAIL} {EMAIL}\n{CARD}\n".encode())
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == "2 rows; masked: card 1, email 2.\n"


@pytest.mark.parametrize(
    ("name", "content", "options", "said"),
    [
        ("in.txt", b"", (), "empty"),
        ("in.txt", b"\x00\x01\x02" * 100, (), "binary"),
        ("in.csv", b"PK\x03\x04\x00\x00", (), "spreadsheet"),
        ("in.csv", b"a,b\n1,2\n", ("--text-column", "c"), "no column “c”"),
        ("in.jsonl", b'{"a": 1}\n', ("--text-column", "c"), "no column “c”"),
        ("in.txt", b"x\n", ("--text-column", "c"), "no columns"),
        ("in.txt", b"x\n", ("--kinds", "names"), "--kinds takes"),
        ("in.csv", b"a,b\n1\r2,3\n", (), "line 2"),
        ("in.parquet", b"PAR1 anna PAR1", (), "damaged"),
    ],
)
def test_bad_input_is_told_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, options: tuple[str, ...], said: str
) -> None:
    code, out = redact(tmp_path, name, content, *options)
    assert code == 2
    assert said in capsys.readouterr().err
    assert not out.exists()
    assert {path.name for path in tmp_path.iterdir()} == {name}


def test_the_input_is_never_overwritten_and_a_name_for_another_format_is_refused(tmp_path: Path) -> None:
    content = f"{EMAIL}\n".encode()
    for out in ("in.txt", "out.csv", "out.txt.gz"):
        assert redact(tmp_path, "in.txt", content, out=out)[0] == 2
    assert (tmp_path / "in.txt").read_bytes() == content


def test_a_large_cell_is_masked(tmp_path: Path) -> None:
    code, out = redact(tmp_path, "in.csv", b"text\n" + b"x " * (1 << 19) + EMAIL.encode() + b"\n")
    assert code == 0
    assert re.search(rf"x {MASK}\n\Z", out.read_text())
