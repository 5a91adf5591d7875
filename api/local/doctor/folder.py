"""The home: whose it is, room on its disk, its secrets and key file, and the ports of the stack that starts from it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from api.local.doctor.finding import Finding
from api.local.doctor.place import Place
from api.local.home.home import FORMAT, FRESH_BYTES, WARM_BYTES, Home
from api.local.home.instance import read_state
from api.local.processes.ports import holder_of, is_free
from api.local.servers.postgres import why_not_let_in
from db.errors import SettingsError
from db.private_files import NoText, read_private

DEFAULT_PORTS: Final = {"--port": 8910, "--flower-port": 5555}


def folder(place: Place) -> Iterator[Finding]:
    home = place.home
    if not home.path.exists():
        parent = next(path for path in home.path.parents if path.exists())
        writable = os.access(parent, os.W_OK)
        yield Finding(
            "home", writable, f"{home.path} does not exist yet", "" if writable else f"{parent} cannot be written: set TEXTMILL_HOME."
        )
        return
    home.refuse_newer()
    owner = home.path.stat().st_uid
    ours = owner == os.geteuid() or (not place.is_up and os.geteuid() == 0)  # root looks into a part's home
    fine = ours and (not place.is_up or os.access(home.path, os.W_OK))
    yield Finding(
        "home",
        fine,
        f"{home.path}, layout {FORMAT}" if place.is_up else f"{home.path}, {_whose(place)}",
        "" if fine else f"It belongs to uid {owner} or cannot be written: set TEXTMILL_HOME to a folder of your own.",
    )
    if place.is_up:
        yield from _open_to_others(home)
        yield _stack(place)


def _open_to_others(home: Home) -> Iterator[Finding]:
    """What `textmill up` refuses to start from."""
    if (why := home.why_not_ours()) is not None:
        found, _, todo = why.partition(": ")
        yield Finding("folders", False, found, f"Look at what lies there, and who put it there; then {todo}")


def _whose(place: Place) -> str:
    if place.part is not None:
        return f"of the part “{place.part}”"
    return "with no part's password (--part says whose it is)" if place.is_guess else f"of several parts: {place.logins}"


def _stack(place: Place) -> Finding:
    state = read_state(place.home) if place.running else {}
    parts = state.get("parts")
    each = [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    down = [str(part.get("name")) for part in each if part.get("state") != "running"]
    return Finding(
        "stack",
        not down,
        f"runs (pid {place.running.pid})" if place.running else "does not run",
        f"Not running: {', '.join(down)}. `textmill status` says why." if down else "",
    )


def disk(place: Place) -> Iterator[Finding]:
    path = next(path for path in (place.home.path, *place.home.path.parents) if path.exists())
    free = shutil.disk_usage(path).free
    needed = FRESH_BYTES if place.is_embedded and not (place.home.postgres / "PG_VERSION").exists() else WARM_BYTES
    yield Finding(
        "disk", free >= needed, f"{free >> 20:,} MiB free", "" if free >= needed else f"Make room: {needed >> 20} MiB are needed to start."
    )


def permissions(place: Place) -> Iterator[Finding]:
    if place.is_embedded and (why := why_not_let_in(place.home)) is not None:
        found, _, todo = why.partition(". ")
        yield Finding("secrets", False, found, todo)
        return
    files = list(_private_files(place.home))
    owners = {os.geteuid(), place.home.path.stat().st_uid} if files and os.geteuid() == 0 else {os.geteuid()}
    wide = [path for path in files if path.stat().st_mode & 0o077 or path.stat().st_uid not in owners]
    if not wide and (damaged := [path for path in files if path.parent == place.home.secrets and not _is_text(path)]):
        shown = ", ".join(map(str, damaged))
        yield Finding("secrets", False, f"no text, so no secret: {shown}", "Restore it from your backup, or set that password anew.")
        return
    yield Finding(
        "secrets",
        not wide,
        f"{len(files)} files, for this user alone" if not wide else f"others may read {', '.join(map(str, wide))}",
        f"Run `chmod 600 {' '.join(map(str, wide))}`, and change what they hold if others use this machine." if wide else "",
    )


def _is_text(secret: Path) -> bool:
    try:
        read_private(secret)
    except NoText:
        return False
    return True


def key_file(place: Place) -> Iterator[Finding]:
    from db.sealing.keys import LocalKeyFile

    path = place.settings.kek_path
    if path.exists() or place.needs_key:
        try:
            kek = LocalKeyFile.load(path)
        except SettingsError as error:
            found, _, todo = error.message.partition(": ")
            yield Finding("key file", False, found, f"{todo[:1].upper()}{todo[1:]}")
        else:
            yield Finding("key file", True, f"{path} (id {kek.kek_id[:8]}…): keep a copy apart from the database's backups")
    if place.settings.unsafe_sealing_off:
        yield Finding("sealing", False, "TEXTMILL_UNSAFE_SEALING_OFF is set: what is stored now can be read", "Unset it.")


def ports(place: Place) -> Iterator[Finding]:
    """Those that `textmill up` takes. With servers of one's own the parts may run already, each by itself."""
    if place.running is not None or not place.is_embedded:
        return
    for option, port in DEFAULT_PORTS.items():
        free = is_free(port)
        holder = "" if free else holder_of(port) or "another program"
        yield Finding(
            f"port {port}", free, "free" if free else f"taken by {holder}", "" if free else f"Start with `textmill up {option} 0`."
        )


def _private_files(home: Home) -> Iterator[Path]:
    for place in (home.keys, home.secrets):
        if place.is_dir():
            yield from (path for path in sorted(place.iterdir()) if path.is_file())
