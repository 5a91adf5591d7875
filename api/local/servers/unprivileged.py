"""Running Postgres where we are root: it refuses uid 0, and rightly so.

First choice: a user namespace. Inside it the process has another uid, outside it stays us, so that files, sockets and signals need no
change. Where the kernel or a container refuses user namespaces: a system user of this machine, with just the right to pass through the
home folder (CAP_DAC_OVERRIDE), so that no folder of root has to be opened for others.
"""

import os
import pwd
import shutil
import stat
import subprocess
from functools import cache
from pathlib import Path

from api.local.home.refusals import StackError


class Unprivileged:
    """How a program is started that must not see uid 0. For every other user: as it is.

    ``program``: one of those to be started. Raises StackError where there is no way to.
    """

    def __init__(self, program: Path) -> None:
        self._owner: tuple[int, int] | None = None
        self.prefix: list[str] = []
        self.how = "as this user"
        if os.geteuid() != 0:
            return
        user = _ordinary_user()
        namespace = ["unshare", "--user", f"--map-user={user.pw_uid}", f"--map-group={user.pw_gid}", "--"]
        if _works(tuple(namespace)):
            self.prefix, self.how = namespace, "in a user namespace"
            return
        become = [
            "setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups",
            "--inh-caps=-all,+dac_override", "--ambient-caps=+dac_override", "--",
        ]  # fmt: skip
        if not _works(tuple(become)):
            raise StackError(
                "Postgres does not run as root, and neither a user namespace nor another user is allowed here: start textmill as an "
                "ordinary user, or set TEXTMILL_DATABASE_URL to a server of yours.",
                code="root_refused",
            )
        if not is_open_to_all(program):  # Postgres' programs look each other up by access(2), which leaves capabilities out
            raise StackError(
                f"Postgres does not run as root, user namespaces are refused here, and {program.parent} lies in a folder that no other "
                "user may enter: install textmill where others may read, start it as an ordinary user, or set TEXTMILL_DATABASE_URL.",
                code="root_refused",
            )
        self.prefix, self.how = become, f"as the system user {user.pw_name}"
        self._owner = (user.pw_uid, user.pw_gid)

    def give(self, path: Path) -> None:
        """Makes the program the owner of ``path``, where it is another user."""
        if self._owner is not None:
            os.chown(path, *self._owner)


def is_open_to_all(program: Path) -> bool:
    """Whether every user of this machine may start ``program``: it and all the folders above it are open to others."""
    return all(place.stat().st_mode & stat.S_IXOTH for place in (program, *program.parents))


@cache
def _works(prefix: tuple[str, ...]) -> bool:
    if shutil.which(prefix[0]) is None:
        return False
    return subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0  # noqa: S603 -- a list, and no shell


def _ordinary_user() -> pwd.struct_passwd:
    """A user that is not root: the server's programs look up their own name, so it must be one the machine knows."""
    known = {user.pw_name: user for user in pwd.getpwall() if user.pw_uid != 0}
    for name in ("postgres", "nobody"):
        if name in known:
            return known[name]
    if not known:
        raise StackError("This machine has no user but root, and Postgres does not run as root: add one, or set TEXTMILL_DATABASE_URL.")
    return min(known.values(), key=lambda user: user.pw_uid)
