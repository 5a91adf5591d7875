"""A setting of the front that does not fit is told by its name, wherever the front is started from."""

from pathlib import Path

import pytest

from api import cli
from api.local.home.refusals import StackError
from api.local.up import check_environment
from api.settings import ApiSettings
from db.errors import SettingsError
from db.settings import load


@pytest.fixture(autouse=True)
def wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTMILL_HOME", str(tmp_path))
    monkeypatch.setenv("TEXTMILL_MAX_UPLOADS", "hunter2")


def test_it_names_the_variable_and_quotes_no_value() -> None:
    with pytest.raises(SettingsError) as refused:
        load(ApiSettings)
    assert refused.value.message.startswith("TEXTMILL_MAX_UPLOADS: ")
    assert "hunter2" not in refused.value.message


def test_the_api_alone_says_so_and_does_not_start(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.request_log.set_up", lambda: None)  # the hooks of this process are pytest's
    assert cli.run(["api"]) == 3
    assert capsys.readouterr().err.splitlines()[-1].startswith("textmill: TEXTMILL_MAX_UPLOADS: ")


def test_the_whole_stack_says_so_before_anything_is_started() -> None:
    with pytest.raises(StackError, match="TEXTMILL_MAX_UPLOADS: "):
        check_environment()
