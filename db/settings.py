"""Where the store is and with which secrets, by environment (``TEXTMILL_…``) or by the files of the home folder."""

import os
import re
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo, timeout_from_conninfo
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from db.errors import SettingsError
from db.private_files import read_private

_PARAMETER: Final = re.compile(r"[a-z]{2,12}(_[a-z]{2,12}){0,4}")
_BROKERS: Final = ("redis", "rediss", "redis+socket", "unix", "sentinel")


class Role(StrEnum):
    """A component of textmill; each logs in to Postgres as its own role."""

    OWNER = "owner"
    API = "api"
    WORKER = "worker"
    DISPATCHER = "dispatcher"
    AUDITOR = "auditor"

    @property
    def login(self) -> str:
        """Name of the Postgres login role."""
        return f"textmill_{self.value}"


class StoreSettings(BaseSettings):
    """What every component needs to reach the store and the queue.

    ``database_url`` names the server and the database; its user is replaced by the component's own login role. Without it the embedded
    servers of ``textmill up`` are used, whose addresses are files under ``home``.
    """

    model_config = SettingsConfigDict(env_prefix="TEXTMILL_", extra="ignore", env_ignore_empty=True, allow_inf_nan=False)

    home: Path = Field(
        default=Path("~/.textmill"), description="Folder with keys, secrets, logs, findings and, on one machine, the embedded servers."
    )
    database_url: str | None = Field(
        default=None,
        description="PostgreSQL 16 or newer: `postgresql://host:5432/textmill?sslmode=verify-full`. Its user is replaced by each part's "
        "own login role. Without it: the embedded one.",
    )
    redis_url: str | None = Field(
        default=None, description="Redis or Valkey: `rediss://:password@host:6379/0`. Without it: the embedded one."
    )
    kek_file: Path | None = Field(default=None, description="The key file that wraps all keys. Without it: `keys/kek.json` in the home.")
    unsafe_sealing_off: bool = Field(
        default=False, description="Everything is stored readable. Only to show that the search for leaks finds something."
    )

    @property
    def home_path(self) -> Path:
        """The home folder, absolute."""
        return self.home.expanduser().absolute()

    @property
    def kek_path(self) -> Path:
        """The key file that wraps the tenants' keys."""
        return (self.kek_file or self.home_path / "keys" / "kek.json").expanduser()

    def database_url_for(self, role: Role) -> URL:
        """The address with the login role and password of ``role``; raises SettingsError where there is none."""
        text = self.database_url or _read(self.home_path / "run" / "database.url")
        if text is None:
            raise SettingsError("No database: set TEXTMILL_DATABASE_URL, or start the embedded one with `textmill up`.")
        url = database_address(text, "TEXTMILL_DATABASE_URL")
        return url.set(drivername="postgresql+psycopg", username=role.login, password=self.password_of(role) or url.password)

    def password_of(self, role: Role) -> str | None:
        """Where it was given for this role; one in the address itself is for all."""
        variable = f"TEXTMILL_DB_PASSWORD_{role.name}"
        given = os.environ.get(variable)
        if given and not given.isprintable():
            raise SettingsError(f"{variable} holds signs that are no text: set it anew.")
        return given or _read(self.home_path / "secrets" / f"db-{role.value}")

    def broker_url(self) -> str:
        """The address of the queue; raises SettingsError where there is none."""
        url = self.redis_url or _read(self.home_path / "run" / "redis.url")
        if url is None:
            raise SettingsError("No queue: set TEXTMILL_REDIS_URL, or start the embedded one with `textmill up`.")
        try:
            parts = urlsplit(url)
            is_address = parts.scheme in _BROKERS and (parts.port is None or parts.port > 0)
        except ValueError:  # the port is no number, or a bracket is open; it quotes what stands there, perhaps of a password
            is_address = False
        if not is_address:
            raise SettingsError("TEXTMILL_REDIS_URL is not an address of Redis or Valkey; it looks like rediss://:password@host:6379/0.")
        return url


def database_address(text: str, variable: str) -> URL:
    """Raises SettingsError where it is none, or PostgreSQL's own clients do not know what it asks for. Quotes no value."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # ValueError: the port is no number; it quotes what stands there, perhaps of a password
        raise SettingsError(f"{variable} is not a database address; it looks like postgresql://host:5432/textmill.") from None
    for name, value in parameters_of(url).items():
        try:
            timeout_from_conninfo(conninfo_to_dict(make_conninfo("", **{name: value})))
        except psycopg.Error:
            raise SettingsError(
                f"{variable} asks for what PostgreSQL's clients do not know ({_named(name)}): after its “?” stand parameters as sslmode, "
                "sslrootcert, connect_timeout."
            ) from None
    return url


def parameters_of(url: URL) -> dict[str, str]:
    """What stands behind its "?", as PostgreSQL's clients take it: of a parameter that is there more than once, a list."""
    return {name: value if isinstance(value, str) else ",".join(value) for name, value in url.query.items()}


def _named(parameter: str) -> str:
    """Of an address that was not written right it may be a piece of a password."""
    return f"“{parameter}”" if _PARAMETER.fullmatch(parameter) else "one of its parameters"


S = TypeVar("S", bound=StoreSettings)


def load(kind: type[S]) -> S:
    """Settings from the environment. Raises SettingsError that says what is wrong with which variable, and quotes no value."""
    try:
        return kind()
    except ValidationError as error:
        faults = [(".".join(map(str, fault["loc"])), fault["msg"]) for fault in error.errors(include_input=False, include_url=False)]
    said = "; ".join(f"TEXTMILL_{name.upper()}: {message}" if name else message for name, message in faults)
    raise SettingsError(f"{said}.")


def _read(path: Path) -> str | None:
    """Raises SettingsError where others could have put it there."""
    try:
        return read_private(path).strip() or None
    except OSError:
        return None
