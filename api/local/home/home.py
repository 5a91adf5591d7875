"""The home folder of a stack: what lies where, made for this user alone."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from api.local.home.refusals import StackError, StackExit, folder_refusal
from api.local.home.secret_files import write_private
from db.private_files import why_others_may_write

FORMAT: Final = 1  # of this layout; one that is higher was made by a newer textmill
FRESH_BYTES: Final = 500 << 20  # an empty database, its write-ahead log and some room for a first job
WARM_BYTES: Final = 64 << 20  # below this a running Postgres is about to stop anyway


@dataclass(frozen=True)
class Home:
    """Paths under one folder. Nothing is touched but by :meth:`prepare`."""

    path: Path

    @property
    def keys(self) -> Path:
        return self.path / "keys"

    @property
    def secrets(self) -> Path:
        return self.path / "secrets"

    @property
    def run(self) -> Path:
        return self.path / "run"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def postgres(self) -> Path:
        return self.path / "postgres"

    @property
    def valkey(self) -> Path:
        return self.path / "valkey"

    @property
    def models(self) -> Path:
        return self.path / "models"

    @property
    def flower(self) -> Path:
        return self.path / "flower"

    @property
    def calibration(self) -> Path:
        return self.path / "calibration"

    @property
    def version_file(self) -> Path:
        return self.path / "version"

    def prepare(self, *, holds_database: bool = True) -> None:
        """Makes the folders, mode 0700. StackError where the home cannot be used, is open to others, or is of a newer layout."""
        self.refuse_newer()
        try:
            for folder in (self.path, *self._made()):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if (why := self.why_not_ours()) is not None:
                raise StackError(why, StackExit.BAD_HOME, code="bad_home")
            for folder in self._rooms():
                if folder.stat().st_mode & 0o077 and not folder.is_symlink():  # where that leads is for somebody else to say
                    folder.chmod(0o700)
            write_private(self.version_file, str(FORMAT))  # also finds out that the disk is full or read-only
        except OSError as error:
            raise folder_refusal(self.path, error) from None
        self._refuse_full(FRESH_BYTES if holds_database and not (self.postgres / "PG_VERSION").exists() else WARM_BYTES)

    def refuse_newer(self) -> None:
        try:
            text = self.version_file.read_text().strip()
        except FileNotFoundError:
            return
        except OSError as error:
            raise folder_refusal(self.path, error) from None
        if not text.isdigit() or int(text) > FORMAT:
            raise StackError(
                f"{self.path} was made by a newer textmill (layout {text[:20]!r}, this one knows {FORMAT}): upgrade textmill.",
                StackExit.NEWER_HOME,
                code="newer_home",
            )

    def why_not_ours(self) -> str | None:
        """Why the home, or a folder of ours in it, is not this user's alone. What lies where others could write may be theirs, and much of
        it is run or believed: to close it now would only hide that."""
        for folder in (self.path, *self._rooms()):
            owner = folder.stat().st_uid
            if owner != os.geteuid() and not (os.geteuid() == 0 and folder == self.postgres):  # which may run as another
                return f"{folder} belongs to another user (uid {owner}): set TEXTMILL_HOME to a folder of your own."
            if (why := why_others_may_write(folder)) is not None:
                return why
        return None

    def _made(self) -> tuple[Path, ...]:
        return (self.keys, self.secrets, self.run, self.logs, self.valkey, self.models, self.flower, self.calibration)

    def _rooms(self) -> list[Path]:
        """Its folders that are ours, as far as they are there. What else is there, a volume's lost+found, nobody runs or believes."""
        return [folder for folder in (*self._made(), self.postgres) if folder.is_dir()]

    def _refuse_full(self, needed: int) -> None:
        free = shutil.disk_usage(self.path).free
        if free < needed:
            raise StackError(
                f"{self.path} has {free >> 20} MiB of free disk and needs {needed >> 20} MiB to start: make room, or set TEXTMILL_HOME.",
                StackExit.BAD_HOME,
                code="disk_full",
            )
