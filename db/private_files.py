"""Files and folders that nobody else may read or change: whoever can has our keys, or us use theirs. As ssh does, we say so and stop."""

import grp
import os
import pwd
import stat
from pathlib import Path
from typing import Final

from db.errors import SettingsError

# Codes of refusals.
NOT_PRIVATE: Final = "not_private"
DAMAGED: Final = "damaged_file"


class NoText(SettingsError):
    """A file that should hold a secret, or an address, holds bytes that are no text."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} holds no text: restore it from your backup.", code=DAMAGED)


def make_private_folder(folder: Path) -> None:
    """It, and those above it that are missing, of mode 0700 whatever the umask is. One that is there stays as it is. Raises OSError."""
    for each in (*reversed(folder.parents), folder):
        each.mkdir(exist_ok=True, mode=0o700)


def read_private(path: Path) -> str:
    """What a secret's file holds, or one that says where secrets are sent. Raises OSError, NoText, and SettingsError where others could
    have read or written it."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # what was looked at is what is read
        about = os.fstat(file.fileno())
        why = why_not_ours(path, about) or why_others_may_read(path, about) or why_others_may_write(path.parent, path.resolve().parent)
        if why is not None:
            raise SettingsError(why, code=NOT_PRIVATE)
        content = file.read()
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise NoText(path) from None
    if "\0" in text:
        raise NoText(path)
    return text


def why_not_ours(path: Path, about: os.stat_result) -> str | None:
    """Why it is not this user's, nor the system's. What root looks at in a user's folder may be that user's."""
    owners = {0, os.geteuid()} | ({path.parent.stat().st_uid} if os.geteuid() == 0 else set())
    if about.st_uid in owners:
        return None
    return f"{path} belongs to another user (uid {about.st_uid}), who may have made it: take it from a copy of yours, and `chown` it."


def why_others_may_read(path: Path, about: os.stat_result) -> str | None:
    """What belongs to root and not to us was given to us by its group."""
    mode = stat.S_IMODE(about.st_mode)
    given = 0o040 if about.st_uid != os.geteuid() else 0
    return f"{path} may be read by others (mode {mode:04o}): run `chmod 600 {path}`." if mode & 0o077 & ~given else None


def why_others_may_write(*places: Path, group: bool = True) -> str | None:
    """Of files or folders, and of all folders above them, by the names they have and by the places they are. In a folder with the sticky
    bit nobody replaces what is another's. ``group``: whether the members of a group are others, too, unless it is its user's own."""
    looked_at: dict[Path, bool] = {}  # in order; by whether the sticky bit saves it
    for place in places:
        for named in dict.fromkeys((place.absolute(), place.resolve())):
            looked_at.setdefault(named, False)
            looked_at.update({above: True for above in named.parents if above not in looked_at})
    for place, stands_above in looked_at.items():
        about = place.stat()
        mode = stat.S_IMODE(about.st_mode)
        if stands_above and mode & stat.S_ISVTX:
            continue
        if mode & 0o002 or (group and mode & 0o020 and not _is_of_one(about)):
            who = "go-w" if mode & 0o020 else "o-w"
            return f"{place} may be written by others (mode {mode:04o}), who could put something else in place: run `chmod {who} {place}`."
    return None


def _is_of_one(about: os.stat_result) -> bool:
    """Whether the group is the owner's own, as many systems give each user one."""
    try:
        owner, members = pwd.getpwuid(about.st_uid), grp.getgrgid(about.st_gid).gr_mem
    except KeyError:
        return False
    return owner.pw_gid == about.st_gid and set(members) <= {owner.pw_name}
