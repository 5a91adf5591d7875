"""TCP ports of this machine's loopback address."""

import socket
from contextlib import closing
from typing import Final

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
        found = [
            c.pid for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port and c.pid
        ]
        return f"{psutil.Process(found[0]).name()} (pid {found[0]})" if found else None
    except psutil.Error:
        return None
