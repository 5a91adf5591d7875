"""Checks as they are written in a terminal."""

import json
from pathlib import Path

import pytest

from api.cli.terminal.exits import CommandError
from api.cli.work.checks import Check, checks_of
from workers.content.checks import read_checks


@pytest.mark.parametrize(
    ("written", "check"),
    [
        ("words<=80", {"check": "length", "unit": "words", "max": 80}),
        ("characters >= 10", {"check": "length", "unit": "characters", "min": 10}),
        ("language=de, fr", {"check": "language", "any_of": ["de", "fr"]}),
        ("required=solid oak", {"check": "required", "words": ["solid oak"]}),
        ("forbidden=a=b", {"check": "forbidden", "words": ["a=b"]}),
        ("regex=^\\d+<=3$", {"check": "regex", "pattern": "^\\d+<=3$"}),
        ("regex!=!", {"check": "regex", "pattern": "!", "found": False}),
        ("unlike_others<0.7", {"check": "unlike_others", "similarity": 0.7}),
    ],
)
def test_a_check_is_written_as_it_reads(written: str, check: Check) -> None:
    assert checks_of([written], None) == [check]
    assert read_checks([check])


@pytest.mark.parametrize("written", ["words<80", "words<=many", "beauty=high", "required=", "words", "language"])
def test_what_is_none_is_refused(written: str) -> None:
    with pytest.raises(CommandError):
        checks_of([written], None)


def test_a_file_holds_them_as_the_api_takes_them_and_options_come_behind(tmp_path: Path) -> None:
    file, schema = tmp_path / "checks.json", tmp_path / "schema.json"
    file.write_text(json.dumps([{"check": "length", "max": 9}]))
    schema.write_text('{"type": "object"}')
    found = checks_of([f"json_schema={schema}"], str(file))
    assert found == [{"check": "length", "max": 9}, {"check": "json_schema", "schema": {"type": "object"}}]


def test_a_file_may_be_yaml(tmp_path: Path) -> None:
    file = tmp_path / "checks.yaml"
    file.write_text("# for the shop\n- check: length\n  max: 80\n- check: forbidden\n  words: [cheap, no]\n")
    assert checks_of([], str(file)) == [{"check": "length", "max": 80}, {"check": "forbidden", "words": ["cheap", "no"]}]


@pytest.mark.parametrize("content", [None, b"nonsense", b'{"check": "length"}', b"[1]", b"[" * 2_000, b"a: b: c", b"\xff\xfe\x00"])
def test_a_file_that_holds_none_is_refused(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "checks.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CommandError):
        checks_of([], str(file))
