"""Which server, which key: from the environment, else from the home folder of the stack on this machine."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from api.cli.terminal.exits import CommandError, ExitCode

if TYPE_CHECKING:
    from api.client import Client

DEFAULT_URL: Final = "http://127.0.0.1:8910"


def home() -> Path:
    return Path(os.environ.get("TEXTMILL_HOME") or "~/.textmill").expanduser()


def server_url(where: Path) -> str:
    if url := os.environ.get("TEXTMILL_API_URL"):
        return url
    import msgspec

    try:
        state = msgspec.json.decode((where / "run" / "state.json").read_bytes())
    except (OSError, msgspec.DecodeError):
        return DEFAULT_URL
    url = state.get("api") if isinstance(state, dict) else None
    return url if isinstance(url, str) else DEFAULT_URL


def api_key(where: Path, url: str) -> str:
    """Raises CommandError. The local key is never sent to a server that is not on this machine."""
    from api.client import is_loopback

    if key := os.environ.get("TEXTMILL_API_KEY", "").strip():
        return key
    if not is_loopback(url):
        raise CommandError(
            "TEXTMILL_API_URL names another machine: set TEXTMILL_API_KEY to a key of that server.",
            ExitCode.REFUSED,
            code="missing_api_key",
        )
    path = where / "secrets" / "api-key"
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        raise CommandError(
            f"There is no API key: {path} does not exist yet. Start the stack with `textmill up`, or set TEXTMILL_API_KEY.",
            ExitCode.UNREACHABLE,
            code="missing_api_key",
        ) from None
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}.", ExitCode.REFUSED, code="missing_api_key") from None


def connect() -> "Client":
    from api.client import Client

    where = home()
    url = server_url(where)
    return Client(url, api_key(where, url))
