"""TCP ports of this machine's loopback address."""

import socket
from collections.abc import Collection
from contextlib import closing
from typing import Any, Final

LOOPBACK: Final = "127.0.0.1"


def free_port() -> int:
    """A port nobody listens on at this moment; somebody may take it before you do, so be ready to ask again."""
    with closing(socket.socket()) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether a server could listen on ``port`` now. A connection of ours that still lingers does not count as taken."""
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def holder_of(port: int) -> str | None:
    """The program that listens on ``port``, as ``name (pid N)``, where this user may know."""
    import psutil

    try:
        found = [pid for pid in _listeners(port) if pid]
        return f"{psutil.Process(found[0]).name()} (pid {found[0]})" if found else None
    except (psutil.Error, OSError):
        return None


def is_anothers(port: int, owners: Collection[int]) -> bool:
    """Whether a process of a user that is not among ``owners``, or may not be looked into, listens on ``port``. So it is taken to be where
    this user may not see who listens at all."""
    import psutil

    try:
        return any(pid is None or not _is_of(pid, owners) for pid in _listeners(port))
    except (psutil.Error, OSError):
        return True


def listens(pid: int, port: int, owners: Collection[int]) -> bool:
    """Whether process ``pid``, of a user among ``owners``, listens on ``port``."""
    import psutil

    try:
        return _is_of(pid, owners) and any(_is_at(each, port) for each in psutil.Process(pid).net_connections("tcp"))
    except (psutil.Error, OSError):
        return False


def _is_of(pid: int, owners: Collection[int]) -> bool:
    import psutil

    try:
        return psutil.Process(pid).uids().effective in owners
    except psutil.Error:
        return False


def _listeners(port: int) -> list[int | None]:
    """The processes that listen on ``port``; None for one of another user, who alone may know."""
    import psutil

    return [each.pid for each in psutil.net_connections("tcp") if _is_at(each, port)]


def _is_at(connection: Any, port: int) -> bool:
    return connection.status == "LISTEN" and bool(connection.laddr) and connection.laddr.port == port
