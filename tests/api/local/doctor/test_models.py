"""What the doctor says of models that servers run."""

from pathlib import Path

import pytest

from api.local.doctor.finding import Finding
from api.local.doctor.models import models
from api.local.doctor.place import Place
from api.local.home.home import Home
from tests.faults.faulty_server import FaultyServer
from workers.models.servers import VARIABLE


def findings_of(entry: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Finding:
    path = folder / "models.toml"
    path.write_text(f'[[models]]\nid = "m"\n{entry}')
    path.chmod(0o600)
    folder.chmod(0o700)
    monkeypatch.setenv(VARIABLE, str(path))
    monkeypatch.setenv("TEXTMILL_HOME", str(folder / "none"))
    return next(one for one in models(Place.of(Home(folder / "none"))) if one.check == "model m")


def test_a_server_is_asked_and_what_is_wrong_with_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultyServer() as server:
        entry = f'engine = "server"\nurl = "{server.url}"\n'
        assert findings_of(entry, tmp_path, monkeypatch) == Finding("model m", True, server.url, "")
        assert "key" in findings_of(f'{entry}key_variable = "NONE"', tmp_path, monkeypatch).todo
    away = findings_of(entry, tmp_path, monkeypatch)
    assert not away.ok
    assert "nothing answers" in away.todo


def test_an_entry_that_cannot_be_used_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = findings_of('engine = "server"\nurl = "http://gpu.internal/v1"', tmp_path, monkeypatch)
    assert (bad.ok, "in the clear" in bad.todo) == (False, True)


def test_vllm_needs_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = 'engine = "vllm"\nfolder = "/srv/models/own"'
    missing = findings_of(entry, tmp_path, monkeypatch)
    assert (missing.ok, "TEXTMILL_VLLM_PYTHON" in missing.todo) == (False, True)
    monkeypatch.setenv("TEXTMILL_VLLM_PYTHON", __file__)
    assert findings_of(entry, tmp_path, monkeypatch).ok
