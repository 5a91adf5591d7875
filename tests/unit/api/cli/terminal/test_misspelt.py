"""What was set and nobody reads is named before a command begins, on stderr alone."""

import pytest

from api.cli import run


@pytest.fixture(autouse=True)
def misspelt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTMILL_DATABSE_URL", "postgresql://u:a-secret@host/textmill")


def test_each_command_names_it_and_not_its_value(capsys: pytest.CaptureFixture[str]) -> None:
    run(["docs"])
    told = capsys.readouterr()
    assert "TEXTMILL_DATABSE_URL is no setting of textmill, and nothing reads it: did you mean TEXTMILL_DATABASE_URL?" in told.err
    assert "a-secret" not in told.err + told.out
    assert "TEXTMILL_DATABSE_URL" not in told.out


def test_who_reads_json_is_not_disturbed(capsys: pytest.CaptureFixture[str]) -> None:
    run(["docs", "--json"])
    assert "DATABSE" not in capsys.readouterr().err


def test_what_is_right_is_not_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEXTMILL_DATABSE_URL")
    monkeypatch.setenv("TEXTMILL_DATABASE_URL", "postgresql://host/textmill")
    run(["docs"])
    assert capsys.readouterr().err == ""
