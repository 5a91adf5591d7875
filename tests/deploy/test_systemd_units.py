"""deploy/systemd: the units parse, are sandboxed, and start what is there. systemd's own checks are asked where it is installed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from api.cli.terminal.exits import exit_code_of
from db.errors import AnotherKeyFile, SettingsError, TextmillError
from tests.deploy.conftest import DEPLOY
from workers.host.memory import EX_CEILING, EX_PLANNED
from workers.host.process import EX_SOFTWARE
from workers.host.watchdog import EX_HANG

UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
BIN = Path(sys.executable).parent
MOST_EXPOSED = {"textmill-worker@.service": 2.0}  # a GPU's driver and torch's compilers need devices and memory that is written and run
EXPOSED = 1.5
SANDBOX = {
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "ProtectProc": "invisible",
    "ProtectKernelTunables": "yes",
    "ProtectKernelModules": "yes",
    "ProtectControlGroups": "yes",
    "RestrictNamespaces": "yes",
    "RestrictSUIDSGID": "yes",
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "LockPersonality": "yes",
    "SystemCallArchitectures": "native",
    "UMask": "0077",
    "LimitCORE": "0",
    "MemorySwapMax": "0",
}


def settings(unit: Path) -> dict[str, list[str]]:
    """What a unit sets, name by name. Raises ValueError where a line is no setting."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        if not line or line.startswith(("#", "[")):
            continue
        name, equals, value = line.partition("=")
        if not equals or not re.fullmatch(r"[A-Z]\w+", name):
            raise ValueError(f"{unit.name}: {line}")
        found.setdefault(name, []).append(value)
    return found


def test_there_is_a_unit_for_every_part() -> None:
    assert {unit.name for unit in UNITS} == {
        "textmill-api.service",
        "textmill-dispatcher.service",
        "textmill-flower.service",
        "textmill-migrate.service",
        "textmill-worker@.service",
    }


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_is_sandboxed_and_keeps_to_its_own_secrets(unit: Path) -> None:
    found = settings(unit)
    assert {name: found[name][-1] for name in SANDBOX} == SANDBOX
    part = found["User"][0].removeprefix("textmill-")
    assert f"TEXTMILL_HOME=/etc/textmill/{part} " in found["Environment"][0]
    hidden = set(found["InaccessiblePaths"][0].split())
    others = {"api", "worker", "dispatcher", "flower", "migrate"} - {part}
    assert hidden == {f"-/etc/textmill/{other}" for other in others}


def test_every_unit_has_its_user() -> None:
    users = set(re.findall(r"^u (\S+)", (DEPLOY / "systemd" / "textmill.sysusers").read_text(), re.MULTILINE))
    assert users == {settings(unit)["User"][0] for unit in UNITS}


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_starts_a_program_that_there_is(unit: Path) -> None:
    program, *words = settings(unit)["ExecStart"][0].split()
    command = [str(BIN / Path(program).name), *(word for word in words if not word.startswith("--"))]
    if "textmill" in command[0]:
        command = [word for word in command if word not in {"%i", "8910", "127.0.0.1"}]
        assert subprocess.run([*command, "--help"], capture_output=True, check=False).returncode == 0
    else:
        assert words[:3] == ["-A", "workers.app:app", "flower"]


RESTARTED = [unit for unit in UNITS if "Restart" in settings(unit)]
CURED_BY_A_RESTART = {1, EX_SOFTWARE, EX_HANG, EX_PLANNED}


def prevented(unit: Path) -> set[int]:
    return {int(code) for code in settings(unit)["RestartPreventExitStatus"][0].split()}


@pytest.mark.parametrize("unit", RESTARTED, ids=lambda unit: unit.stem)
def test_a_unit_is_started_again_for_ever_but_after_what_no_restart_cures(unit: Path) -> None:
    found = settings(unit)
    assert (found["Restart"], found["StartLimitIntervalSec"]) == (["always"], ["0"])
    assert prevented(unit).isdisjoint(CURED_BY_A_RESTART)
    assert "MemoryMax" in found


def test_a_ceiling_that_is_too_low_ends_a_workers_unit() -> None:
    assert EX_CEILING in prevented(DEPLOY / "systemd" / "textmill-worker@.service")


@pytest.mark.parametrize("part", ["api", "dispatcher", "worker@"])
@pytest.mark.parametrize(
    "error",
    [AnotherKeyFile(), SettingsError("old", code="older_database"), SettingsError("new", code="newer_home")],
    ids=lambda error: error.code,
)
def test_another_key_file_or_another_schema_ends_a_unit(part: str, error: TextmillError) -> None:
    assert exit_code_of(error) in prevented(DEPLOY / "systemd" / f"textmill-{part}.service")


@pytest.mark.parametrize("part", ["api", "dispatcher", "worker@"])
def test_a_wrong_setting_or_a_wrong_command_ends_a_unit(part: str, tmp_path: Path) -> None:
    environment = {**os.environ, "TEXTMILL_HOME": str(tmp_path), "TEXTMILL_DATABASE_URL": "no address"}
    for words in ([], ["--no-such-option"]):
        done = subprocess.run([BIN / "textmill", part.strip("@"), *words], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode in prevented(DEPLOY / "systemd" / f"textmill-{part}.service")
        assert done.stderr.startswith("textmill: ")
        assert done.stderr.count("\n") == 1


def test_what_calibration_finds_outlives_a_workers_unit() -> None:
    """Its home is read-only: the folder is one that systemd keeps for it."""
    found = settings(DEPLOY / "systemd" / "textmill-worker@.service")
    assert "TEXTMILL_CALIBRATION_FOLDER=/var/lib/textmill-calibration " in found["Environment"][0]
    assert "textmill-calibration" in found["StateDirectory"][0].split()


def sourced(file: Path) -> dict[str, str]:
    """What a shell takes from it for the commands after it."""
    names = re.findall(r"^(\w+)=", file.read_text(), re.MULTILINE)
    values = " ".join(f'"${name}"' for name in names)
    lines = f'set -eua; . "$1"; printf "%s\\n" {values}'
    done = subprocess.run(["sh", "-c", lines, "sh", str(file)], env={}, capture_output=True, text=True, check=True)
    return dict(zip(names, done.stdout.splitlines(), strict=True))


def test_a_shell_reads_the_shared_settings_as_systemd_does() -> None:
    """deploy/README.md sources them; systemd takes the quotes away, and knows no other sign."""
    file = DEPLOY / "systemd" / "textmill.env"
    told = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', file.read_text(), re.MULTILINE))
    assert sourced(file) == told
    assert told["TEXTMILL_DATABASE_URL"].endswith("?sslmode=verify-full&sslrootcert=/etc/textmill/ca.crt")


def test_an_address_without_quotes_does_not_come_through_a_shell(tmp_path: Path) -> None:
    bare = tmp_path / "bare.env"
    bare.write_text("TEXTMILL_DATABASE_URL=postgresql://localhost/textmill?sslmode=verify-full&sslrootcert=/ca.crt\n")
    with pytest.raises(subprocess.CalledProcessError):
        sourced(bare)


def test_the_recipe_leaves_no_place_of_a_container_in_the_servers_files(tmp_path: Path) -> None:
    recipe = (DEPLOY / "README.md").read_text()
    changed = re.findall(r'^sed "([^"]+)" (deploy/\S+) >', recipe, re.MULTILINE)
    assert [file for _, file in changed] == ["deploy/postgres/tls.conf", "deploy/redis/redis.conf"]
    for script, file in changed:
        command = ["sed", script.replace("$pg", "/etc/postgresql/18/main"), str(DEPLOY.parent / file)]
        made = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert not re.search(r"^[^#]*(/run/secrets|/data\b)", made, re.MULTILINE), file
        assert "/etc/textmill/ca.crt" in made


def test_metrics_of_a_single_dispatcher_have_their_port() -> None:
    assert "TEXTMILL_METRICS_PORT=9101" in settings(DEPLOY / "systemd" / "textmill-dispatcher.service")["Environment"][0].split()


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units as on a machine where textmill lies in this environment."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    for unit in UNITS:
        (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/textmill/bin", str(BIN)))
    return tmp_path


def test_systemd_finds_no_fault_in_the_units(installed: Path) -> None:
    command = ["systemd-analyze", "verify", "--man=no", *(str(installed / unit.name) for unit in UNITS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    faults = [line for line in (done.stdout + done.stderr).splitlines() if "textmill" in line]
    assert faults == []


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_counts_a_small_exposure(unit: Path, installed: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(installed / unit.name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    level = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    if level is None:
        pytest.skip("this systemd does not count without a running one")
    assert float(level[1]) <= MOST_EXPOSED.get(unit.name, EXPOSED)
