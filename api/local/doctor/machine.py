"""The machine: Python and its packages, processors, memory, limits."""

import os
import platform
import resource
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import psutil

from api.local.doctor.finding import Finding
from api.local.doctor.place import Place
from api.local.processes.devices import devices
from workers.machine.memory import allowed_bytes

MIN_MEMORY_BYTES: Final = 2 << 30  # the parts without a model take some 700 MiB, the encoder's worker about as much
MIN_FILES: Final = 1024
PACKAGES: Final = ("celery", "redis", "torch", "sqlalchemy", "pydantic", "flower", "psycopg", "cryptography", "transformers")


def versions(_place: Place) -> Iterator[Finding]:
    yield Finding(
        "python",
        sys.version_info >= (3, 11),
        f"{platform.python_version()} on {platform.system()} {platform.release()}",
        "" if sys.version_info >= (3, 11) else "Use Python 3.11 or newer.",
    )
    found = {name: version_of(name) for name in PACKAGES}
    missing = [name for name, number in found.items() if number is None]
    yield Finding(
        "packages",
        not missing,
        ", ".join(f"{name} {number or 'missing'}" for name, number in found.items()),
        f"Install textmill again: {', '.join(missing)} missing." if missing else "",
    )


def processor(place: Place) -> Iterator[Finding]:
    if not place.runs_models:
        return
    from workers.engines.contract.plan import plan
    from workers.machine.cores import cores
    from workers.machine.cpu import cpu_flags, telling_flags

    made = plan("encoder", device="cpu", cpu_flags=cpu_flags(), cores=cores())
    yield Finding(
        "cpu",
        True,
        f"{cores()} cores; {' '.join(sorted(telling_flags())) or 'no flags that matter'} → models run in {made.format} on the CPU",
    )


def graphics(place: Place) -> Iterator[Finding]:
    if not place.runs_models:
        return
    found = [device for device in devices() if device != "cpu"]
    if not found:
        yield Finding("gpu", True, "none that this user may use; the CPU does the work")
        return
    has_cuda = "+cpu" not in (version_of("torch") or "")
    todo = "" if has_cuda else "This torch is built for CPUs: install the CUDA build of the same version, or set TEXTMILL_DEVICE=cpu."
    yield Finding("gpu", has_cuda, f"{', '.join(found)}: one worker each", todo)


def memory(_place: Place) -> Iterator[Finding]:
    found, allowed = psutil.virtual_memory(), allowed_bytes()
    enough = (allowed or found.total) >= MIN_MEMORY_BYTES
    limited = "" if allowed is None else f"; this container or unit may use {allowed >> 20:,} MiB"
    yield Finding(
        "memory",
        enough,
        f"{found.available >> 20:,} MiB of {found.total >> 20:,} MiB available{limited}",
        "" if enough else f"Give {'this machine' if allowed is None else 'it'} {MIN_MEMORY_BYTES >> 30} GiB or more.",
    )


def limits(place: Place) -> Iterator[Finding]:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = soft == resource.RLIM_INFINITY or soft >= MIN_FILES
    yield Finding("open files", enough, f"at most {soft}", "" if enough else f"Raise the limit: `ulimit -n {MIN_FILES}`.")
    if not place.is_embedded:
        return
    from api.local.servers.postgres import binary
    from api.local.servers.unprivileged import Unprivileged

    yield Finding("user", True, f"uid {os.geteuid()}: Postgres runs {Unprivileged(binary('postgres')).how}")


def version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
