"""Where the store is: by environment or by the files of the home, with a sentence where neither says."""

from pathlib import Path

import pytest

from db.errors import SettingsError
from db.settings import Role, StoreSettings

ADDRESS = "postgresql://somebody:in-the-address@db.example:6432/mill"


def write(home: Path, name: str, content: str) -> None:
    path = home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(0o600)


@pytest.mark.parametrize("role", list(Role))
def test_each_component_logs_in_as_itself(tmp_path: Path, role: Role) -> None:
    url = StoreSettings(home=tmp_path, database_url=ADDRESS).database_url_for(role)
    assert (url.username, url.host, url.port, url.database) == (f"textmill_{role.value}", "db.example", 6432, "mill")
    assert url.drivername == "postgresql+psycopg"


def test_a_password_comes_from_the_environment_then_from_its_file_then_from_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = StoreSettings(home=tmp_path, database_url=ADDRESS)
    assert settings.database_url_for(Role.API).password == "in-the-address"
    write(tmp_path, "secrets/db-api", "in-the-file\n")
    assert settings.database_url_for(Role.API).password == "in-the-file"
    assert settings.database_url_for(Role.WORKER).password == "in-the-address"
    monkeypatch.setenv("TEXTMILL_DB_PASSWORD_API", "in-the-environment")
    assert settings.database_url_for(Role.API).password == "in-the-environment"


def test_the_environment_sets_the_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTMILL_HOME", str(tmp_path))
    monkeypatch.setenv("TEXTMILL_DATABASE_URL", ADDRESS)
    monkeypatch.setenv("TEXTMILL_REDIS_URL", "redis://queue:6379/0")
    monkeypatch.setenv("TEXTMILL_KEK_FILE", str(tmp_path / "elsewhere.json"))
    monkeypatch.setenv("TEXTMILL_OTHER_THINGS", "are left alone")
    settings = StoreSettings()
    assert settings.database_url_for(Role.API).host == "db.example"
    assert settings.broker_url() == "redis://queue:6379/0"
    assert settings.kek_path == tmp_path / "elsewhere.json"
    assert settings.unsafe_sealing_off is False


def test_the_embedded_servers_are_found_by_their_files(tmp_path: Path) -> None:
    write(tmp_path, "run/database.url", "postgresql:///textmill?host=/run/sockets\n")
    write(tmp_path, "run/redis.url", "redis://:secret@127.0.0.1:7000/0\n")
    settings = StoreSettings(home=tmp_path)
    assert settings.database_url_for(Role.WORKER).query["host"] == "/run/sockets"
    assert settings.broker_url() == "redis://:secret@127.0.0.1:7000/0"
    assert settings.kek_path == tmp_path / "keys" / "kek.json"


def test_without_servers_it_says_how_to_come_by_them(tmp_path: Path) -> None:
    settings = StoreSettings(home=tmp_path)
    with pytest.raises(SettingsError, match="TEXTMILL_DATABASE_URL, or start the embedded one with `textmill up`"):
        settings.database_url_for(Role.API)
    write(tmp_path, "run/redis.url", "\n")
    with pytest.raises(SettingsError, match="TEXTMILL_REDIS_URL, or start the embedded one with `textmill up`"):
        settings.broker_url()


@pytest.mark.parametrize("address", ["no address", "db.example:5432", "postgresql://user:secret@db.example:secret2/mill"])
def test_a_wrong_address_is_refused_without_being_quoted(tmp_path: Path, address: str) -> None:
    with pytest.raises(SettingsError, match="is not a database address") as caught:
        StoreSettings(home=tmp_path, database_url=address).database_url_for(Role.API)
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("asks", "named"),
    [
        ("pool_size=5", "“pool_size”"),
        ("sslmode=require&POOL=1", "one of its parameters"),
        ("connect_timeout=soon", "“connect_timeout”"),
        ("ss%40ord=1", "one of its parameters"),
    ],
)
def test_an_address_that_asks_for_what_no_client_knows_is_refused(tmp_path: Path, asks: str, named: str) -> None:
    with pytest.raises(SettingsError, match=r"TEXTMILL_DATABASE_URL asks for what PostgreSQL's clients do not know") as caught:
        StoreSettings(home=tmp_path, database_url=f"{ADDRESS}?{asks}").database_url_for(Role.API)
    assert f"({named})" in caught.value.message
    assert "ss@ord" not in caught.value.message


def test_what_a_client_knows_passes(tmp_path: Path) -> None:
    asks = "sslmode=verify-full&sslrootcert=/ca.crt&connect_timeout=4&target_session_attrs=read-write&host=a:1&host=b:2&application_name=x"
    StoreSettings(home=tmp_path, database_url=f"postgresql:///mill?{asks}").database_url_for(Role.API)


def test_a_password_that_is_no_text_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTMILL_DB_PASSWORD_API", "p\udce4ss")
    with pytest.raises(SettingsError, match="TEXTMILL_DB_PASSWORD_API holds signs that are no text"):
        StoreSettings(home=tmp_path, database_url=ADDRESS).database_url_for(Role.API)


def test_a_home_may_be_written_from_the_users_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert StoreSettings().home_path == tmp_path / ".textmill"
    assert StoreSettings(kek_file=Path("~/kek.json")).kek_path == tmp_path / "kek.json"
