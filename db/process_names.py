"""What a process of ours is called in leases, heartbeats, logs and Flower: ``host:pid:start``.

A host and a process id alone are not one process: in a container that starts again, or in two on machines of one name, both are the same.
``start`` is drawn at each start, so whoever comes next under the same host and pid inherits nothing of the one before.
"""

import os
import secrets
import socket


def new_start() -> str:
    """What tells a start of a process from every other."""
    return secrets.token_hex(4)


def name_of(pid: int, start: str) -> str:
    """Of a process of this machine."""
    return f"{socket.gethostname()}:{pid}:{start}"


def own_name(start: str | None = None) -> str:
    """Of this process; ``start`` where whoever started it drew it."""
    return name_of(os.getpid(), start or new_start())


def host_of(name: str) -> str:
    return name.partition(":")[0]


def pid_of(name: str) -> int:
    return int(name.split(":")[1])


def without_start(name: str) -> str:
    """``host:pid``, as a person says it."""
    return ":".join(name.split(":")[:2])
