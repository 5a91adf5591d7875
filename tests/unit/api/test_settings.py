"""A setting that does not fit is told by its name, wherever a part is started from; what is set to nothing is not set."""

import math
import threading
from pathlib import Path
from typing import cast, get_args

import pytest
from annotated_types import Ge, Le

from api import cli
from api.cli.terminal.connection import home
from api.local.home.refusals import StackError
from api.local.up import check_environment
from api.settings import ApiSettings
from db.errors import SettingsError
from db.settings import StoreSettings, load
from workers.settings import DispatcherSettings, WorkerSettings


@pytest.fixture
def wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTMILL_HOME", str(tmp_path))
    monkeypatch.setenv("TEXTMILL_MAX_UPLOADS", "hunter2")


@pytest.mark.usefixtures("wrong")
def test_it_names_the_variable_and_quotes_no_value() -> None:
    with pytest.raises(SettingsError) as refused:
        load(ApiSettings)
    assert refused.value.message.startswith("TEXTMILL_MAX_UPLOADS: ")
    assert "hunter2" not in refused.value.message


@pytest.mark.usefixtures("wrong")
def test_the_api_alone_says_so_and_does_not_start(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.request_log.set_up", lambda: None)  # the hooks of this process are pytest's
    assert cli.run(["api"]) == 3
    assert capsys.readouterr().err.splitlines()[-1].startswith("textmill: TEXTMILL_MAX_UPLOADS: ")


@pytest.mark.usefixtures("wrong")
def test_the_whole_stack_says_so_before_anything_is_started() -> None:
    with pytest.raises(StackError, match="TEXTMILL_MAX_UPLOADS: "):
        check_environment()


NUMBERS = [
    (kind, name, number)
    for kind in (StoreSettings, ApiSettings, WorkerSettings, DispatcherSettings)
    for name, field in kind.model_fields.items()
    for number in (int, float)
    if number in (field.annotation, *get_args(field.annotation))
]


def bounds(kind: type[StoreSettings], name: str) -> tuple[float, float]:
    told = kind.model_fields[name].metadata
    [least] = [each.ge for each in told if isinstance(each, Ge)]
    [most] = [each.le for each in told if isinstance(each, Le)]
    return float(cast(float, least)), float(cast(float, most))


@pytest.mark.parametrize(("kind", "name", "number"), NUMBERS, ids=str)
def test_every_number_has_a_least_and_a_most(
    kind: type[StoreSettings], name: str, number: type[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    least, most = bounds(kind, name)
    monkeypatch.setenv("TEXTMILL_LEASE_SECONDS", "3600")  # of which others may be a part
    for fits in {least, most}:
        if name not in ("heartbeat_seconds", "lease_seconds"):
            monkeypatch.setenv(f"TEXTMILL_{name.upper()}", str(number(fits)))
            assert getattr(load(kind), name) == fits
    for value in ("inf", "-inf", "nan", "1e300", "-1e300", str(number(most) * 2), str(number(least - 1)), "Infinity", "9" * 400):
        monkeypatch.setenv(f"TEXTMILL_{name.upper()}", value)
        with pytest.raises(SettingsError, match=f"TEXTMILL_{name.upper()}: "):
            load(kind)
    assert math.isfinite(most)
    assert most < threading.TIMEOUT_MAX or "seconds" not in name, "as long as a thread can wait"


def test_these_are_all_numbers_there_are() -> None:
    assert {"shard_seconds", "reap_seconds", "tick_seconds", "keep_jobs_days", "max_upload_bytes", "window"} <= {
        each[1] for each in NUMBERS
    }


@pytest.mark.parametrize("kind", [StoreSettings, ApiSettings, WorkerSettings, DispatcherSettings])
def test_what_is_set_to_nothing_is_not_set(kind: type[StoreSettings], monkeypatch: pytest.MonkeyPatch) -> None:
    """As compose writes a variable that the shell does not have."""
    for name in kind.model_fields:
        monkeypatch.delenv(f"TEXTMILL_{name.upper()}", raising=False)
    unset = kind()
    for name in kind.model_fields:
        monkeypatch.setenv(f"TEXTMILL_{name.upper()}", "")
    assert load(kind) == unset
    assert load(kind).home_path == home().absolute() == Path("~/.textmill").expanduser()
    assert load(kind).kek_path == load(kind).home_path / "keys" / "kek.json"
