"""`textmill docs`: the list, a page as it lies there when piped, a page that is drawn on a terminal."""

import json
import re
import sys

import pytest

from api import cli
from api.docs.pages import TOPICS, find


def test_the_topics_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["docs"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head == "TOPIC\tABOUT"
    assert [row.partition("\t")[0] for row in rows] == list(TOPICS)
    assert all(row.partition("\t")[2] for row in rows)


def test_a_page_that_is_piped_is_plain_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    page = find("jobs")
    assert page is not None
    assert cli.run(["docs", "jobs"]) == 0
    assert capsys.readouterr().out == page.text


def test_a_page_on_a_terminal_is_drawn(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("NO_COLOR", "1")
    assert cli.run(["docs", "labels"]) == 0
    said = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    assert "By a stored set" in said
    assert "## By" not in said
    assert "](" not in said
    assert "textmill docs files" in " ".join(said.split())
    assert max(map(len, said.splitlines())) <= 60


def test_a_page_that_there_is_not_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["docs", "nothing"]) == 2
    assert capsys.readouterr().err == "textmill: There is no page of this name; `textmill docs` lists them.\n"


def test_topics_and_a_page_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["docs", "--json"]) == 0
    assert [each["topic"] for each in json.loads(capsys.readouterr().out)] == list(TOPICS)
    assert cli.run(["docs", "keys", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Keys and the audit record"
