"""`textmill doctor` finds what is wrong, and says what to do about it."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from api.local.doctor import folder, machine
from api.local.doctor.doctor import examine
from api.local.doctor.finding import Finding
from api.local.doctor.place import Place
from api.local.home.home import Home
from db.settings import StoreSettings


def found(findings: list[Finding], check: str) -> Finding:
    return next(each for each in findings if each.check == check)


@pytest.fixture
def outside(settings: StoreSettings, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Finding]]:
    """Examines a home whose servers run."""
    monkeypatch.setenv("TEXTMILL_HOME", str(settings.home))
    monkeypatch.setenv("TEXTMILL_DATABASE_URL", str(settings.database_url))
    monkeypatch.setenv("TEXTMILL_REDIS_URL", str(settings.redis_url))
    return lambda: examine(Home(settings.home))


def test_a_home_in_order_has_nothing_to_do(outside: Callable[[], list[Finding]]) -> None:
    findings = outside()
    wrong = [each for each in findings if not each.ok and not each.check.startswith(("model", "port", "gpu", "durability"))]
    assert wrong == [], "the tests' server is not durable, and is found to be"
    assert found(findings, "postgres").found.startswith("PostgreSQL 18")
    assert found(findings, "clock").ok
    assert "noeviction" in found(findings, "redis").found
    assert "models run in" in found(findings, "cpu").found


def test_a_home_that_does_not_exist_yet_is_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTMILL_HOME", str(tmp_path / "none"))
    findings = examine(Home(tmp_path / "none"))
    assert "does not exist yet" in found(findings, "home").found
    assert all(each.ok for each in findings if not each.check.startswith(("model", "port", "gpu")))
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("given", [{}, {"TEXTMILL_HOME": "home"}, {"TEXTMILL_HOME": "home", "TEXTMILL_DEVICE": "cpu"}])
def test_the_settings_that_are_counted_are_those_that_somebody_gave(
    given: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEXTMILL_HOME", "")
    monkeypatch.delenv("TEXTMILL_HOME")  # what is set meanwhile goes with the test
    for name, value in given.items():
        monkeypatch.setenv(name, str(tmp_path / value) if name == "TEXTMILL_HOME" else value)
    assert found(examine(Home(tmp_path / "home")), "settings").found == f"{len(given)} in the environment, each known"


def test_a_secret_that_others_may_read_is_found(outside: Callable[[], list[Finding]], settings: StoreSettings) -> None:
    (settings.home / "secrets" / "db-api").chmod(0o644)
    finding = found(outside(), "secrets")
    assert not finding.ok
    assert "chmod 600" in finding.todo
    assert "db-api" in finding.todo
    (settings.home / "secrets" / "db-api").chmod(0o600)
    (settings.home / "keys" / "kek.json").chmod(0o640)
    assert any(not each.ok and "kek.json" in each.found for each in outside())


@pytest.mark.parametrize("name", ["flower", "calibration", "models"])
def test_a_folder_that_others_may_write_is_found(name: str, outside: Callable[[], list[Finding]], settings: StoreSettings) -> None:
    home = Home(settings.home)
    home.prepare()
    assert all(each.check != "folders" for each in outside())
    (home.path / name).chmod(0o777)
    told = found(outside(), "folders")
    assert not told.ok
    assert f"{home.path / name} may be written by others" in told.found
    assert "chmod go-w" in told.todo


def test_servers_that_do_not_answer_are_found_and_no_password_is_shown(
    outside: Callable[[], list[Finding]], settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEXTMILL_REDIS_URL", "redis://:a-secret@127.0.0.1:1/0")
    (settings.home / "secrets" / "db-api").write_text("a-wrong-password\n")
    findings = outside()
    assert not found(findings, "redis").ok
    assert not found(findings, "postgres").ok
    told = " ".join(each.found + each.todo for each in findings)
    assert "a-secret" not in told
    assert "a-wrong-password" not in told


def test_a_clock_that_is_wrong_is_found(outside: Callable[[], list[Finding]], monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3600)
    finding = found(outside(), "clock")
    assert not finding.ok
    assert "NTP" in finding.todo


def test_a_taken_port_is_found_with_who_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        monkeypatch.setattr(folder, "DEFAULT_PORTS", {"--port": port})
        finding = found(list(folder.ports(Place.of(Home(tmp_path / "none")))), f"port {port}")
    assert not finding.ok
    assert str(os.getpid()) in finding.found
    assert "--port 0" in finding.todo


def test_sealing_that_is_off_is_found(outside: Callable[[], list[Finding]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTMILL_UNSAFE_SEALING_OFF", "1")
    assert not found(outside(), "sealing").ok


def test_a_check_that_fails_itself_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> int:
        raise RuntimeError("with a detail that is not shown")

    monkeypatch.setenv("TEXTMILL_HOME", str(tmp_path))
    monkeypatch.setattr(machine.psutil, "virtual_memory", broken)
    finding = found(examine(Home(tmp_path)), "memory")
    assert (finding.ok, finding.found) == (False, "could not be looked at (RuntimeError)")
