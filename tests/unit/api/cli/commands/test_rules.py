"""Rules and templates tried out without a server."""

import json
from pathlib import Path

import pytest

from api.cli import run

RULES = """
rules: [{name: dear, when: {column: price, above: 100}, label: dear}]
default: {label: cheap}
tests: [{row: {price: '120'}, answer: dear}]
"""


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "it.yaml"
    path.write_text(text)
    return str(path)


def test_rules_are_held_to_their_tests_and_say_what_they_say_of_a_row(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, RULES)
    assert run(["rules", "test", file, "--cell", "price=200", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == {"rules": 1, "tests": 1, "columns": ["price"], "text": "dear", "rule": "dear"}
    assert run(["rules", "test", file]) == 0
    assert "1 rules; 1 tests passed." in capfd.readouterr().err


def test_rules_whose_tests_fail_are_told_by_number(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["rules", "test", written(tmp_path, RULES.replace("'120'", "'20'"))]) != 0
    assert "1 of its 1 tests fail: 1 (line 4: another answer)" in capfd.readouterr().err


def test_a_template_is_rendered_and_what_it_lacks_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, "text: '{a|b|c} {name} {price}'")
    assert run(["templates", "render", file, "--cell", "name=chair", "--cell", "size=9", "-n", "20"]) == 0
    told = capfd.readouterr()
    assert set(told.out.split("\n")) == {"a chair", "b chair", "c chair", ""}
    assert "Columns without a cell here: price." in told.err
    assert "Cells that the template does not look at: size." in told.err


def test_a_template_that_writes_nothing_says_why(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["templates", "render", written(tmp_path, "text: '{name}'")]) != 0
    assert "empty_answer" in capfd.readouterr().err
