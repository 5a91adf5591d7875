"""Which server, which key: from the environment, else from the home folder of the stack on this machine."""

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from api.cli.terminal.exits import CommandError, ExitCode

if TYPE_CHECKING:
    from api.client import Client


def home() -> Path:
    return Path(os.environ.get("TEXTMILL_HOME") or "~/.textmill").expanduser()


def server_url(where: Path) -> str:
    """The address in TEXTMILL_API_URL, else that of the stack of this home.

    Raises CommandError where no stack of this home listens there: somebody else who does gets no key and no text.
    """
    if url := os.environ.get("TEXTMILL_API_URL"):
        if not _is_address(url):
            raise CommandError(
                "TEXTMILL_API_URL is not an address of an HTTP API; it looks like http://127.0.0.1:8910.",
                ExitCode.UNREACHABLE,
                code="unreachable",
            )
        return url
    from api.local.home.home import Home
    from api.local.home.instance import read_state
    from api.local.processes.ports import listens

    state = read_state(Home(where))
    told, children = state.get("api"), state.get("children")
    pid = children.get("api") if isinstance(children, dict) else None
    if isinstance(told, str) and isinstance(pid, int) and listens(pid, urlsplit(told).port or 0, _owners(where)):
        return told
    raise CommandError(
        f"No stack runs in {where}: start it with `textmill up`, or name another server in TEXTMILL_API_URL.",
        ExitCode.UNREACHABLE,
        code="unreachable",
    )


def _is_address(url: str) -> bool:
    import httpx

    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and bool(httpx.URL(url).host)
    except (ValueError, httpx.InvalidURL):  # a bracket is open, the port is no number
        return False


def api_key(where: Path, url: str) -> tuple[str, str]:
    """The key, and what it was taken from. Raises CommandError, and SettingsError where others could have put the key there. The local key
    is never sent to a server that is not on this machine, nor to another user's."""
    from api.client import is_loopback
    from api.local.processes.ports import is_anothers
    from db.private_files import read_private

    if key := os.environ.get("TEXTMILL_API_KEY", "").strip():
        return key, "TEXTMILL_API_KEY"
    if not is_loopback(url):
        raise CommandError(
            "TEXTMILL_API_URL names another machine: set TEXTMILL_API_KEY to a key of that server.",
            ExitCode.REFUSED,
            code="missing_api_key",
        )
    if os.environ.get("TEXTMILL_API_URL") and is_anothers(urlsplit(url).port or 80, _owners(where)):
        raise CommandError(
            f"Another user's program listens at {url}, or this user may not see whose it is: it does not get the key of this home. Set "
            "TEXTMILL_API_KEY to a key of that server.",
            ExitCode.REFUSED,
            code="missing_api_key",
        )
    path = where / "secrets" / "api-key"
    try:
        return read_private(path).strip(), str(path)
    except FileNotFoundError:
        raise CommandError(
            f"There is no API key: {path} does not exist yet. Start the stack with `textmill up`, or set TEXTMILL_API_KEY.",
            ExitCode.UNREACHABLE,
            code="missing_api_key",
        ) from None
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}.", ExitCode.REFUSED, code="missing_api_key") from None


def _owners(where: Path) -> set[int]:
    """Whose programs may have what lies in the home."""
    try:
        return {os.geteuid(), where.stat().st_uid}
    except OSError:
        return {os.geteuid()}


def connect() -> "Client":
    from api.client import Client

    where = home()
    url = server_url(where)
    key, key_from = api_key(where, url)
    if not (key and key.isascii() and key.isprintable()):
        raise CommandError(
            f"The API key is none: {key_from} is empty, or holds signs that no key has. Set TEXTMILL_API_KEY to a key, or look at "
            f"{where / 'secrets' / 'api-key'}.",
            ExitCode.REFUSED,
            code="missing_api_key",
        )
    return Client(url, key, key_from=key_from)
