"""A house on a durable Postgres of its own, to stop, kill, fill up and put back."""

import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from api.local.home.home import Home
from api.local.home.secret_files import write_private
from api.local.servers.postgres import EmbeddedPostgres
from db.actors import Actor
from db.connect import open_store
from db.operators.api_keys import SCOPES
from db.operators.tenants import create_tenant
from db.sealing.keys import LocalKeyFile
from db.server.migrate import DATABASE, bootstrap, migrate
from db.settings import Role, StoreSettings
from tests.conftest import PREFIX
from tests.faults.house import House


@dataclass(frozen=True)
class OwnPostgres:
    """The server behind a house."""

    server: EmbeddedPostgres

    def restart(self, how: str) -> None:
        """``fast`` and ``immediate`` as Postgres calls them; ``killed``: kill -9 of all its processes, so that what it had not yet handed
        to the kernel is gone."""
        if how == "killed":
            self.kill()
        else:
            self.server.stop(hurry=how == "immediate")
        self.server.start()

    def kill(self) -> None:
        assert self.server.child is not None
        main = psutil.Process(self.server.child.pid)
        every = [main, *main.children(recursive=True)]
        main.send_signal(signal.SIGSTOP)  # it must not start or end others meanwhile
        for process in [*every, *main.children(recursive=True)]:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(every, 10)
        self.server.child.wait(10)

    def move_to_small_disk(self, room_bytes: int) -> "SmallDisk":
        """Puts its data on a file system of their own with so much room left. PermissionError where none may be mounted."""
        data = self.server.data
        self.server.stop()
        aside = data.with_name("aside")
        data.rename(aside)
        data.mkdir(mode=0o700)
        used = sum(path.lstat().st_size for path in aside.rglob("*"))
        options = f"size={used + room_bytes},mode=0700"
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(data)], capture_output=True, check=False)
        if mounted.returncode != 0:
            data.rmdir()
            aside.rename(data)
            self.server.start()
            raise PermissionError
        shutil.copytree(aside, data, dirs_exist_ok=True, symlinks=True)
        shutil.rmtree(aside)
        for path in (data, *data.rglob("*")):
            self.server._unprivileged.give(path)
        self.server.start()
        return SmallDisk(data)


@dataclass(frozen=True)
class SmallDisk:
    folder: Path

    @property
    def ballast(self) -> Path:
        return self.folder / "ballast"

    def fill(self) -> None:
        """To the last byte, by somebody else's file."""
        with self.ballast.open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while True:
                        file.write(b"\0" * size)
                except OSError:
                    continue

    def make_room(self) -> None:
        self.ballast.unlink()

    def unmount(self) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=True)


@contextmanager
def own_house(folder: Path, broker_url: str) -> Iterator[tuple[House, OwnPostgres]]:
    home = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))  # short: the server's socket lies in it
    Home(home).prepare()
    server = EmbeddedPostgres(home)
    server.start()
    try:
        settings = _prepared(home, server, broker_url)
        api = open_store(settings, Role.API)
        tenant_id = create_tenant(api, "a tenant")
        actor = Actor(tenant_id=tenant_id, principal_id=uuid.uuid4(), key_id=None, scopes=SCOPES)
        house = House(settings, api, actor, folder, broker_url)
        try:
            yield house, OwnPostgres(server)
        finally:
            house.stop()
            house.api.close()
    finally:
        server.stop(hurry=True)
        shutil.rmtree(home, ignore_errors=True)


def _prepared(home: Path, server: EmbeddedPostgres, broker_url: str) -> StoreSettings:
    passwords = {role: uuid.uuid4().hex for role in Role}
    bootstrap(server.superuser_url(), passwords, DATABASE)
    owner = server.superuser_url(DATABASE).set(drivername="postgresql+psycopg", username=Role.OWNER.login, password=passwords[Role.OWNER])
    migrate(owner)
    LocalKeyFile.create(home / "keys" / "kek.json")
    for role, password in passwords.items():
        write_private(home / "secrets" / f"db-{role.value}", password)
    return StoreSettings(home=home, database_url=server.address(DATABASE), redis_url=broker_url)
