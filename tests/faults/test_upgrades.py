"""F52: the release before is ended in the midst of a job, the schema moves on, and this one ends the job.

The older program is the real one, of the commit before the newest migration, with the packages of this one. It shows that this release ends
what that one began, however that one ended. It does not show an upgrade over several releases (their migrations are run, their programs are
not), nor another version of a package, nor an engine other than the deterministic one.
"""

import io
import os
import signal
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from db.actors import Actor
from db.connect import open_store
from db.operators.api_keys import SCOPES
from db.server.migrate import current_revision
from db.server.revision import head_revision
from db.settings import Role, StoreSettings
from tests.conftest import Server
from tests.db.server.test_migrate import as_superuser, empty  # noqa: F401
from tests.faults.conftest import Verdict
from tests.faults.front import lines_of, load_of, start_front
from tests.faults.house import LONG_LEASE, ROOT, House, texts
from tests.faults.test_versions import alive, no_attempt_was_burned, stored_rows

ROWS = 1_500


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of the commit before the newest migration; skipped where the history is not here: a shallow clone, or a bundle."""
    newest = git("log", "-1", "--diff-filter=A", "--format=%H", "--", f"db/migrations/versions/{head_revision()}_*.py").decode().strip()
    packed = git("archive", "--format=tar", f"{newest}^") if newest else b""
    if not packed:
        pytest.skip("the history does not reach to the commit before the newest migration")
    tree = tmp_path_factory.mktemp("older")
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(tree, filter="data")
    return tree


def git(*arguments: str) -> bytes:
    """What it says; nothing where it fails, or is not there."""
    try:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return b""


class Upgraded:
    """A database that the older program has made, with a tenant, and a house of the older program's processes over it."""

    def __init__(self, settings: StoreSettings, server: Server, database: str, older: Path, folder: Path, broker_url: str) -> None:
        self.settings = settings
        self.owner = settings.database_url_for(Role.OWNER)
        self.textmill(older, "db", "migrate")
        self.before = current_revision(self.owner)
        self.key = self.textmill(older, "db", "tenant", "acme").split()[-1]
        with as_superuser(server, database) as conn:
            row = conn.execute("SELECT tenant_id FROM tenants").fetchone()
        assert row is not None
        actor = Actor(tenant_id=row[0], principal_id=uuid.uuid4(), key_id=None, scopes=SCOPES)
        self.house = House(settings, open_store(settings, Role.API), actor, folder, broker_url)
        self.house.tree = older

    def migrate(self) -> None:
        self.textmill(ROOT, "db", "migrate")
        self.house.tree = ROOT

    def textmill(self, tree: Path, *arguments: str) -> str:
        told = {
            "TEXTMILL_HOME": str(self.settings.home),
            "TEXTMILL_DATABASE_URL": str(self.settings.database_url),
            "TEXTMILL_REDIS_URL": str(self.settings.redis_url),
        }
        command = [sys.executable, "-m", "api.cli", *arguments]
        done = subprocess.run(command, cwd=tree, env={**os.environ, **told}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def upgraded(
    settings: StoreSettings,
    server: Server,
    empty: str,  # noqa: F811
    valkey: str,
    older: Path,
    tmp_path: Path,
) -> Iterator[Upgraded]:
    own = StoreSettings(home=settings.home, database_url=server.address(empty), redis_url=valkey)
    made = Upgraded(own, server, empty, older, tmp_path, valkey)
    yield made
    made.house.stop()
    made.house.api.close()


@pytest.mark.matrix
@pytest.mark.fault("F52", "the release before ends, or is killed, in the midst of a job, and this one goes on")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["ended", "killed"])
def test_a_job_that_the_release_before_began_is_ended_by_this_one(
    upgraded: Upgraded,
    server: Server,
    empty: str,  # noqa: F811
    verdict: Verdict,
    how: signal.Signals,
) -> None:
    house, documents = upgraded.house, texts(ROWS)
    assert upgraded.before is not None
    assert upgraded.before < head_revision()
    house.start_dispatcher()
    house.start_worker(delay_ms=4, **LONG_LEASE)
    front = start_front(house, key=upgraded.key)
    file_id = front.upload(lines_of(documents)).raise_for_status().json()["id"]
    with front.http() as http:
        batch = http.post("/v1/batches", json=front.job_of(file_id)).raise_for_status().json()
    house.wait_for(lambda: stored_rows(server, empty) >= ROWS // 5, "a fifth is done")
    for process in house.processes:
        process.send(how)
    for process in house.processes:
        process.popen.wait(60)
    by_the_older = stored_rows(server, empty)
    assert by_the_older < ROWS

    upgraded.migrate()
    assert current_revision(upgraded.owner) == head_revision()
    load = load_of(house, batch, documents)
    parts = house.start_dispatcher(), house.start_worker()
    house.wait_all_completed([load])
    assert alive(*parts)
    counted = verdict(house.count([load]), by_the_older=by_the_older)
    if how is signal.SIGTERM:
        assert counted.recomputed == 0
        assert no_attempt_was_burned(house, load.job_id)
