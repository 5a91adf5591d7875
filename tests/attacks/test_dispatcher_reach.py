"""What a taken-over dispatcher or worker cannot do: destroy what is in use, or write the record in another's name."""

from collections.abc import Callable
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from db.actors import Actor
from db.connect import Store
from db.files.files import create_file
from db.files.rows import NewRow, RowWriter
from db.settings import Role
from tests.db.flow import Flow

Stores = Callable[[Role], Store]


@pytest.fixture
def file_in_use(stores: Stores, tenant: Actor) -> None:
    file = create_file(stores(Role.API), tenant, name="letters.jsonl", purpose="rows")
    writer = RowWriter(stores(Role.API), tenant, file)
    writer.append([NewRow(line=1, endpoint=None, defect=None, custom_id="a", body=b'{"input":"a letter"}', size=8)])
    writer.finish(20)


def touched(stores: Stores, statement: str) -> int:
    """How many rows the dispatcher's role reaches with it."""
    with stores(Role.DISPATCHER).transaction() as conn:
        return int(conn.execute(text(statement)).rowcount)


@pytest.mark.usefixtures("file_in_use")
@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM rows",
        "DELETE FROM files",
        "DELETE FROM data_keys",
        "UPDATE rows SET body_sealed = NULL",
        "UPDATE files SET name_sealed = ''",
    ],
)
def test_the_dispatcher_destroys_nothing_that_is_in_use(stores: Stores, statement: str) -> None:
    assert touched(stores, statement) == 0


@pytest.fixture
def job_in_work(stores: Stores, tenant: Actor) -> None:
    flow = Flow(stores)
    flow.job(tenant, 2)
    flow.answer(flow.claim(), [0], finish=False)


@pytest.mark.usefixtures("job_in_work")
@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM jobs",
        "DELETE FROM shards",
        "DELETE FROM results",
        "DELETE FROM data_keys WHERE owner_kind = 'job'",
        "UPDATE results SET payload_sealed = NULL",
    ],
)
def test_the_dispatcher_erases_nothing_of_a_job_that_was_not_deleted(stores: Stores, statement: str) -> None:
    assert touched(stores, statement) == 0


@pytest.mark.usefixtures("job_in_work")
@pytest.mark.parametrize("mark", ["deleted_at = now()", "output_deleted_at = now()", "errors_deleted_at = now()", "erase_from_idx = 0"])
def test_the_dispatcher_deletes_no_job_that_has_not_ended(stores: Stores, mark: str) -> None:
    with pytest.raises(ProgrammingError, match="row-level security"), stores(Role.DISPATCHER).transaction() as conn:
        conn.execute(text(f"UPDATE jobs SET {mark}"))


@pytest.mark.usefixtures("file_in_use")
def test_the_dispatcher_lets_no_file_expire_on_its_first_day(stores: Stores) -> None:
    with stores(Role.DISPATCHER).transaction() as conn:
        assert conn.execute(text("UPDATE files SET expires_at = now()")).rowcount == 0


FORGED = text(
    "INSERT INTO audit_events (tenant_id, event_id, at, component, action, outcome) "
    "VALUES (:tenant, :event, now() + make_interval(days => :days), :component, 'key.create', 'allowed')"
)


@pytest.mark.parametrize("role", [Role.API, Role.WORKER, Role.DISPATCHER])
def test_no_component_writes_the_record_in_anothers_name_or_for_another_day(stores: Stores, tenant: Actor, role: Role) -> None:
    def write(component: str, days: int) -> None:
        with stores(role).transaction(tenant=tenant.tenant_id) as conn:
            conn.execute(FORGED, {"tenant": tenant.tenant_id, "event": uuid4(), "component": component, "days": days})

    write(role.value, 0)
    other = next(known.value for known in (Role.API, Role.WORKER) if known is not role)
    for component, days in ((other, 0), (role.value, -365)):
        with pytest.raises(ProgrammingError, match="row-level security"):
            write(component, days)
