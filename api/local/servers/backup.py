"""A base backup of the embedded Postgres: every byte of it, and none that opens it.

For servers of one's own their own tools do this; the page on operations tells how.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from api.local.home.home import Home
from api.local.home.refusals import StackError, StackExit
from api.local.servers.postgres import SUPERUSER, binary


def back_up(home: Home, folder: Path) -> None:
    """While the stack runs, into ``folder``, which must not be there; checked file by file against what the server said.

    Raises StackError; nothing is left of a backup that did not come to its end.
    """
    if home.path.resolve() in (folder.resolve(), *folder.resolve().parents):
        raise StackError(f"{folder} lies in the home itself: name a folder elsewhere, on another disk if you can.", StackExit.USAGE)
    if folder.exists() or folder.is_symlink():
        raise StackError(f"{folder} is there already: name a new folder for each backup.", StackExit.USAGE)
    if (around := next((each for each in folder.resolve().parents if _holds_database(each)), None)) is not None:
        raise StackError(f"{folder} lies in {around}, which holds a database: name a folder beside it.", StackExit.USAGE)
    try:
        address = (home.run / "database.url").read_text().strip()
        password = (home.secrets / "db-superuser").read_text().strip()
    except FileNotFoundError:
        raise StackError(
            f"No Postgres of a stack runs in {home.path}: start it with `textmill up`. A server of your own has tools of its own."
        ) from None
    login = {**os.environ, "PGUSER": SUPERUSER, "PGPASSWORD": password}
    try:
        _run("pg_basebackup", "--dbname", address, "--pgdata", str(folder), "--wal-method=stream", "--checkpoint=fast", environment=login)
        _run("pg_verifybackup", "--exit-on-error", "--quiet", str(folder))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _holds_database(folder: Path) -> bool:
    """A backup, or the files of a server."""
    return any((folder / name).exists() for name in ("backup_manifest", "PG_VERSION"))


def _run(name: str, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(  # noqa: S603 -- a program of the wheel
        [str(binary(name)), *arguments], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise StackError(f"The backup was not made: {done.stderr.strip() or f'{name} ended with {done.returncode}'}", code="backup_failed")
