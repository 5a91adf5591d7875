"""deploy/make-secrets: what it makes, for whom, and that it never takes anything back."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from db.sealing.keys import LocalKeyFile
from tests.deploy.conftest import make_secrets


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_secret_is_for_its_owner_alone(secrets_folder: Path) -> None:
    assert stat.S_IMODE(secrets_folder.stat().st_mode) == 0o700
    assert len(list(secrets_folder.iterdir())) > 10
    for path in secrets_folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name


def test_a_second_run_changes_nothing(secrets_folder: Path) -> None:
    before = contents(secrets_folder)
    assert make_secrets(secrets_folder).returncode == 0
    assert contents(secrets_folder) == before


def test_what_is_missing_is_made_and_the_rest_is_left(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    make_secrets(folder)
    before = contents(folder)
    (folder / "db-api").unlink()
    make_secrets(folder)
    after = contents(folder)
    assert after.keys() == before.keys()
    assert [name for name in after if after[name] != before[name]] == ["db-api"]


def test_the_key_file_opens(secrets_folder: Path) -> None:
    key_file = LocalKeyFile.load(secrets_folder / "kek.json")
    assert key_file.unwrap(key_file.wrap(b"x" * 32, b"bound"), b"bound") == b"x" * 32


def test_the_certificates_are_signed_for_their_servers(secrets_folder: Path) -> None:
    for name in ("postgres", "valkey"):
        for host in (["-verify_hostname", name], ["-verify_hostname", "localhost"], ["-verify_ip", "127.0.0.1"]):
            command = ["openssl", "verify", "-CAfile", "ca.crt", "-purpose", "sslserver", *host, f"{name}.crt"]
            done = subprocess.run(command, cwd=secrets_folder, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
    wrong = ["openssl", "verify", "-CAfile", "ca.crt", "-verify_hostname", "elsewhere", "postgres.crt"]
    assert subprocess.run(wrong, cwd=secrets_folder, capture_output=True, check=False).returncode != 0


def test_the_acl_holds_a_digest_and_not_the_password(secrets_folder: Path) -> None:
    acl = (secrets_folder / "users.acl").read_text()
    assert (secrets_folder / "redis").read_text().strip() not in acl
    assert "PASSWORD_SHA256" not in acl


def test_the_containers_run_as_the_owner_and_never_as_root(secrets_folder: Path) -> None:
    env = dict(line.split("=") for line in (secrets_folder.parent / ".env").read_text().split())
    uid = int(env["TEXTMILL_UID"])
    assert uid != 0
    assert {path.stat().st_uid for path in secrets_folder.iterdir()} == {uid}


def test_each_part_gets_its_own_secrets_and_no_other(secrets_folder: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("homes are given to other users, which takes root")
    homes = tmp_path / "homes"
    done = make_secrets(secrets_folder, "--homes", str(homes))
    assert done.returncode == 0, done.stderr
    assert set(contents(homes)) == {
        "ca.crt",
        "api/keys/kek.json",
        "api/secrets/db-api",
        "worker/keys/kek.json",
        "worker/secrets/db-worker",
        "worker/run/redis.url",
        "dispatcher/secrets/db-dispatcher",
        "dispatcher/run/redis.url",
        "flower/run/redis.url",
        "flower/flower.py",
        "migrate/secrets/db-owner",
        "migrate/secrets/db-api",
        "migrate/secrets/db-worker",
        "migrate/secrets/db-dispatcher",
        "migrate/secrets/db-auditor",
    }
    for path in homes.rglob("*"):
        if path.name != "ca.crt":
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert "127.0.0.1" in (homes / "flower" / "flower.py").read_text()


def test_an_unknown_option_is_refused_with_the_usage(tmp_path: Path) -> None:
    done = make_secrets(tmp_path / "secrets", "--now")
    assert done.returncode == 2
    assert "deploy/make-secrets --homes" in done.stderr
    assert not (tmp_path / "secrets").exists()
