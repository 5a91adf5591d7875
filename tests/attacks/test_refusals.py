"""A refusal tells of a state, so it is on record: who asked for what, of which object, and why not. The list of what can be refused is held
against the sources, so that a new refusal is found here."""

import ast
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

import pytest

from db.actors import Actor
from db.audit.reading import AuditEvent, list_events
from db.catalogue.definitions import delete_definition
from db.catalogue.label_sets import delete_label_set, put_label_set
from db.errors import StoreError
from db.files.files import create_file, delete_file
from db.files.rows import RowWriter, iter_rows
from db.jobs.creating import RequestRef, create_job
from db.jobs.jobs import delete_outputs, list_jobs, read_spec
from db.jobs.results import Place, iter_results
from db.jobs.row_story import find_row
from db.jobs.steering import cancel_job, delete_job, pause_job, resume_job, retry_job, set_priority
from db.jobs.versions import PROMPTS
from db.lifecycle import INTERACTIVE_PRIORITY, MAX_INTERACTIVE_ROWS
from db.operators.api_keys import authenticate, create_api_key, revoke_api_key
from db.queue.endings import finalize_jobs
from tests.db.conftest import AsSuperuser
from tests.db.flow import Flow, Stores, new_job, plain
from tests.db.queue.test_sources import chain

ROOT: Final = Path(__file__).parents[2]
Asked = tuple[UUID | None, Callable[[], object]]  # the object that the event must name, and what is asked


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


def running(flow: Flow, who: Actor) -> UUID:
    return flow.job(who, 5).job_id


def ended(flow: Flow, who: Actor, *, fail: bool = False) -> UUID:
    job = flow.job(who, 5)
    flow.answer(flow.claim(), fail=fail)
    finalize_jobs(flow.dispatcher)
    return job.job_id


def without_its_file(flow: Flow, who: Actor) -> UUID:
    job = flow.job(who, 5)
    flow.answer(flow.claim(), fail=True)
    finalize_jobs(flow.dispatcher)
    delete_file(flow.api, who, job.file_id)
    return job.job_id


def without_its_output(flow: Flow, who: Actor) -> UUID:
    job_id = ended(flow, who)
    delete_outputs(flow.api, who, job_id, "output")
    return job_id


def never_run(flow: Flow, who: Actor) -> UUID:
    job = flow.job(who, [plain(at, defect="invalid_json") for at in range(3)])
    finalize_jobs(flow.dispatcher)
    return job.job_id


def writer(flow: Flow, who: Actor) -> tuple[UUID, RowWriter]:
    file = create_file(flow.api, who, name="a", purpose="batch")
    return file.file_id, RowWriter(flow.api, who, file)


def deleted_upload(flow: Flow, who: Actor) -> tuple[UUID, RowWriter]:
    file_id, upload = writer(flow, who)
    upload.append([plain(0), plain(1, custom_id="id-0")])
    delete_file(flow.api, who, file_id)
    return file_id, upload


def twin(flow: Flow, who: Actor) -> Asked:
    file = flow.upload(who, 2)
    first = create_job(flow.api, who, new_job(file.file_id, request=RequestRef(b"name", b"body")), find_twin=True)
    other = new_job(file.file_id, request=RequestRef(b"name", b"another"))
    return first.job_id, lambda: create_job(flow.api, who, other, find_twin=True)


def run_again(flow: Flow, who: Actor) -> tuple[UUID, Callable[[], object]]:
    job = flow.job(who, 5)
    lease = flow.claim()
    flow.answer(lease, range(3), finish=False)
    flow.answer(lease, range(3, 5), fail=True)
    finalize_jobs(flow.dispatcher)
    reading = iter_results(flow.api, who, job.job_id, which="output", page=1)
    next(reading)
    retry_job(flow.api, who, job.job_id)
    return job.job_id, lambda: next(reading)


def read_before(flow: Flow, who: Actor) -> Asked:
    job_id, _ = run_again(flow, who)
    return job_id, lambda: iter_results(flow.api, who, job_id, which="errors", after=Place(4))


def many_rows(flow: Flow, who: Actor) -> UUID:
    return flow.upload(who, MAX_INTERACTIVE_ROWS + 1).file_id


def results_that_are_gone(flow: Flow, who: Actor) -> Asked:
    job_id = without_its_output(flow, who)
    return job_id, lambda: iter_results(flow.api, who, job_id, which="output")


def job_over(flow: Flow, who: Actor, file_id: UUID, *, priority: int = 0) -> Asked:
    return file_id, lambda: create_job(flow.api, who, new_job(file_id, priority=priority))


def of_job(flow: Flow, who: Actor, ask: Callable[..., object], job_id: UUID, *more: object) -> Asked:
    return job_id, lambda: ask(flow.api, who, job_id, *more)


def key_of(flow: Flow, who: Actor, *, expires_at: datetime | None = None) -> tuple[UUID, str]:
    return create_api_key(flow.api, who.tenant_id, uuid4(), "theirs", ["read"], expires_at)


def revoked(flow: Flow, who: Actor) -> Asked:
    key_id, presented = key_of(flow, who)
    revoke_api_key(flow.api, who, key_id)
    return key_id, lambda: authenticate(flow.api, presented)


def expired(flow: Flow, who: Actor) -> Asked:
    key_id, presented = key_of(flow, who, expires_at=datetime.now(UTC) - timedelta(hours=1))
    return key_id, lambda: authenticate(flow.api, presented)


def revoked_in_its_course(flow: Flow, who: Actor) -> Asked:
    job_id, (key_id, presented) = running(flow, who), key_of(flow, who)
    holder = authenticate(flow.api, presented)
    revoke_api_key(flow.api, who, key_id)
    return job_id, lambda: pause_job(flow.api, holder, job_id)


def read_by_another(flow: Flow, who: Actor) -> UUID:
    job = flow.job(who, 2)
    create_job(flow.api, who, replace(new_job(job.file_id), source_id=job.job_id))
    return job.job_id


REFUSALS: Final[tuple[tuple[str, str, Callable[[Flow, Actor], Asked]], ...]] = (
    ("cannot_pause", "job.pause", lambda f, who: of_job(f, who, pause_job, ended(f, who))),
    ("cannot_resume", "job.resume", lambda f, who: of_job(f, who, resume_job, ended(f, who))),
    ("cannot_reorder", "job.priority", lambda f, who: of_job(f, who, set_priority, ended(f, who), 1)),
    ("cannot_retry", "job.retry", lambda f, who: of_job(f, who, retry_job, running(f, who))),
    ("cannot_retry", "job.retry", lambda f, who: of_job(f, who, retry_job, never_run(f, who))),
    ("nothing_to_retry", "job.retry", lambda f, who: of_job(f, who, retry_job, ended(f, who))),
    ("output_deleted", "job.retry", lambda f, who: of_job(f, who, retry_job, without_its_output(f, who))),
    ("file_deleted", "job.retry", lambda f, who: of_job(f, who, retry_job, without_its_file(f, who))),
    ("cannot_cancel", "job.cancel", lambda f, who: of_job(f, who, cancel_job, ended(f, who))),
    ("part_of_chain", "job.cancel", lambda f, who: of_job(f, who, cancel_job, chain(f, who, 2)[0])),
    ("batch_in_use", "job.delete", lambda f, who: of_job(f, who, delete_job, read_by_another(f, who))),
    ("job_not_ended", "results.delete.output", lambda f, who: of_job(f, who, delete_outputs, running(f, who), "output")),
    ("job_not_ended", "results.delete.errors", lambda f, who: of_job(f, who, delete_outputs, running(f, who), "errors")),
    ("idempotency_key_reused", "job.create", twin),
    ("file_not_processed", "job.create", lambda f, who: job_over(f, who, writer(f, who)[0])),
    ("too_many_rows", "job.create", lambda f, who: job_over(f, who, many_rows(f, who), priority=INTERACTIVE_PRIORITY)),
    ("not_found", "job.create", lambda f, who: job_over(f, who, uuid4())),
    ("file_not_processed", "rows.read", lambda f, who: of_job(f, who, iter_rows, writer(f, who)[0])),
    ("results_changed", "results.read", run_again),
    ("results_changed", "results.read", read_before),
    ("not_found", "results.read", results_that_are_gone),
    ("not_found", "results.delete.output", lambda f, who: of_job(f, who, delete_outputs, without_its_output(f, who), "output")),
    ("file_in_use", "file.delete", lambda f, who: (file_id := f.job(who, 2).file_id, lambda: delete_file(f.api, who, file_id))),
    ("not_found", "file.delete", lambda f, who: of_job(f, who, delete_file, uuid4())),
    ("upload_gone", "rows.write", lambda f, who: ((gone := deleted_upload(f, who))[0], lambda: gone[1].append([plain(2)]))),
    ("upload_gone", "rows.mark", lambda f, who: ((gone := deleted_upload(f, who))[0], lambda: gone[1].finish(1))),
    *(
        ("not_found", f"job.{name}", lambda f, who, ask=ask, more=more: of_job(f, who, ask, uuid4(), *more))
        for name, ask, more in (
            ("pause", pause_job, ()),
            ("resume", resume_job, ()),
            ("priority", set_priority, (1,)),
            ("retry", retry_job, ()),
            ("delete", delete_job, ()),
            ("cancel", cancel_job, ()),
            ("spec.read", read_spec, ()),
        )
    ),
    ("not_found", "row.find", lambda f, who: of_job(f, who, find_row, f.job(who, 2).job_id, "none")),
    ("not_found", "job.list", lambda f, who: (unknown := uuid4(), lambda: list_jobs(f.api, who, limit=1, after=unknown))),
    ("not_found", "audit.list", lambda f, who: (None, lambda: list_events(f.api, who, after=uuid4()))),
    ("not_found", "label_set.delete", lambda f, who: (None, lambda: delete_label_set(f.api, who, "none"))),
    ("not_found", "prompt.delete", lambda f, who: (None, lambda: delete_definition(f.api, who, PROMPTS, "none"))),
    ("not_found", "key.revoke", lambda f, who: of_job(f, who, revoke_api_key, uuid4())),
    ("revoked_api_key", "key.use", revoked),
    ("expired_api_key", "key.use", expired),
    ("revoked_api_key", "job.pause", revoked_in_its_course),
)  # fmt: skip
# What else refuses, and why none of it is in the table above.
ELSEWHERE: Final = {
    "damaged_api_key": "tests/attacks/test_authority.py",
    "missing_scope": "tests/api/requests/test_auth.py",
    "key_destroyed": "below",
    "empty_file": "what is refused is what was just sent: `file.refuse` is on record",
    "DAMAGED": "of a head, a label set or a prompt that a new job names: its reading and `value.damaged` are on record",
    "model_not_found": "of a head, its reading is on record; the registry is everybody's",
    "invalid_spec": "tells of the request alone",
    "would_be_late": "tells of the queue: tests/api/routes/test_forecasts.py",
    "invalid_priority": "tells of the request alone",
    "unknown_scope": "tells of the request alone",
    "missing_api_key": "belongs to no tenant",
    "invalid_api_key": "belongs to no tenant",
    "key_not_found": "what was asked for is no id",
    "page_not_found": "the documentation is everybody's",
    "row_outside_shard": "a worker's fault, and nobody asks for it",
}
# How often each is made, and where. A new one comes here once its refusal is seen on record above, or cannot tell of a state.
MADE: Final = {
    "api/objects.py": {"not_found": 3},  # of what is no id
    "api/requests/auth.py": {"missing_scope": 1, "missing_api_key": 1},
    "api/requests/batch_requests.py": {"DAMAGED": 1},
    "api/requests/writers.py": {"DAMAGED": 1},
    "api/routes/audit.py": {"not_found": 1},  # the look, which brought out nothing, is on record
    "api/routes/definitions.py": {"not_found": 1},
    "api/routes/docs.py": {"page_not_found": 1},
    "api/routes/heads.py": {"not_found": 1},  # its reading, which brought out nothing, is on record
    "api/routes/keys.py": {"key_not_found": 1},
    "api/requests/prompts.py": {"DAMAGED": 1},
    "api/routes/label_sets.py": {"not_found": 1},
    "api/routes/models.py": {"model_not_found": 1},
    "api/routes/rows.py": {"not_found": 1},  # what was asked for is no number
    "db/audit/acts.py": {"not_found": 1},
    "db/audit/reading.py": {"not_found": 1},
    "db/files/files.py": {"file_in_use": 1, "not_found": 1},
    "db/files/rows.py": {"empty_file": 1, "file_not_processed": 1, "upload_gone": 1},
    "db/jobs/creating.py": {
        "file_not_processed": 1,
        "idempotency_key_reused": 1,
        "invalid_spec": 1,
        "not_found": 2,
        "too_many_rows": 1,
        "would_be_late": 1,
    },
    "db/jobs/chains.py": {"batch_in_use": 1, "not_found": 1, "part_of_chain": 1},
    "db/jobs/jobs.py": {"job_not_ended": 1, "not_found": 2},
    "db/jobs/results.py": {"not_found": 1, "results_changed": 1},
    "db/jobs/row_story.py": {"not_found": 2},  # one of a place that the job has not: its reading is on record
    "db/jobs/steering.py": {
        "cannot_cancel": 1,
        "cannot_reorder": 1,
        "cannot_retry": 2,
        "cannot_{}": 1,
        "file_deleted": 1,
        "invalid_priority": 1,
        "nothing_to_retry": 1,
        "output_deleted": 1,
    },
    "db/operators/api_keys.py": {
        "damaged_api_key": 1,
        "expired_api_key": 1,
        "invalid_api_key": 1,
        "not_found": 1,
        "revoked_api_key": 1,
        "unknown_scope": 2,
    },
    "db/queue/results.py": {"row_outside_shard": 1},
    "db/sealing/keys.py": {"key_destroyed": 2},
}
OF_ITSELF: Final = {"Conflict": "conflict", "NotFound": "not_found", "Denied": "denied", "StoreError": "store_error"}
OUR_OWN: Final = ("api/cli/", "api/demo/", "api/local/")  # no requests of principals


def events(flow: Flow, who: Actor, action: str) -> list[AuditEvent]:
    return list_events(flow.api, replace(who, key_id=None), action=action, limit=1000)


@pytest.mark.parametrize(
    ("code", "action", "prepare"), REFUSALS, ids=[f"{code}-{action}-{at}" for at, (code, action, _) in enumerate(REFUSALS)]
)
def test_a_refusal_is_on_record_with_its_reason(
    flow: Flow, tenant: Actor, code: str, action: str, prepare: Callable[[Flow, Actor], Asked]
) -> None:
    asking = replace(tenant, request_id="req_1", origin="192.0.2.7")
    object_id, ask = prepare(flow, asking)
    before = {event.event_id for event in events(flow, asking, action)}
    with pytest.raises(StoreError) as refused:
        ask()
    assert refused.value.code == code
    new = [event for event in events(flow, asking, action) if event.event_id not in before and event.code == code]
    assert [(event.outcome, event.object_id) for event in new] == [("denied", object_id)]
    if action != "key.use" and code != "revoked_api_key":
        assert (new[0].principal_id, new[0].request_id, new[0].origin) == (asking.principal_id, "req_1", "192.0.2.7")


@pytest.mark.parametrize(("code", "action", "prepare"), [one for one in REFUSALS if one[1].startswith(("job.", "file.", "results.delete"))])
def test_what_was_refused_is_nowhere_said_to_be_allowed(
    flow: Flow, tenant: Actor, code: str, action: str, prepare: Callable[[Flow, Actor], Asked]
) -> None:
    _, ask = prepare(flow, tenant)
    allowed = sum(event.outcome == "allowed" for event in events(flow, tenant, action))
    with pytest.raises(StoreError):
        ask()
    assert sum(event.outcome == "allowed" for event in events(flow, tenant, action)) == allowed


def test_what_a_key_that_was_destroyed_refuses_is_on_record(flow: Flow, tenant: Actor, as_superuser: AsSuperuser) -> None:
    as_superuser("DELETE FROM data_keys WHERE tenant_id = %s", [tenant.tenant_id])
    flow.api.keyring.forget(tenant.tenant_id, "tenant", tenant.tenant_id)
    for ask, action, code in (
        (lambda: create_api_key(flow.api, tenant.tenant_id, tenant.principal_id, "a key", ["read"]), "key.create", "key_destroyed"),
        (lambda: put_label_set(flow.api, tenant, "colours", ["red", "green"]), "label_set.read", "sealed_value_damaged"),
        (lambda: delete_label_set(flow.api, tenant, "colours"), "label_set.delete", "key_destroyed"),
    ):
        with pytest.raises(StoreError) as refused:
            ask()
        assert [refused.value.code] == [code]
        assert [(event.outcome, event.code) for event in events(flow, tenant, action)] == [("denied", code)]


def test_every_refusal_of_the_store_and_its_front_is_held_in_this_list() -> None:
    made = {path: dict(Counter(codes)) for path, codes in refusals_made()}
    assert made == MADE


def test_every_code_of_the_list_is_seen_on_record_or_says_why_not() -> None:
    seen = {code for code, _, _ in REFUSALS}
    assert {code for codes in MADE.values() for code in codes} - {"cannot_{}"} == (seen | set(ELSEWHERE)) - {
        "cannot_pause",
        "cannot_resume",
    }


def refusals_made() -> Iterator[tuple[str, list[str]]]:
    """Of each file, the codes of the refusals that it makes: of the store's family, and of the front's that tell of a state (409)."""
    for path in sorted([*(ROOT / "db").rglob("*.py"), *(ROOT / "api").rglob("*.py")]):
        name = path.relative_to(ROOT).as_posix()
        calls = [] if name.startswith(OUR_OWN) else [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        if codes := [code for call in calls if (code := code_of(call)) is not None]:
            yield name, codes


def code_of(call: ast.Call) -> str | None:
    kind = call.func.id if isinstance(call.func, ast.Name) else ""
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    if kind in OF_ITSELF:
        return spelled(given["code"]) if "code" in given else OF_ITSELF[kind]
    status = given.get("status")
    if kind == "Refused" and isinstance(status, ast.Constant) and status.value in (401, 403, 404, 409, 410):
        return spelled(call.args[0])
    return None


def spelled(code: ast.expr) -> str:
    match code:
        case ast.Constant(value=str(value)):
            return value
        case ast.JoinedStr(values=values):
            return "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in values)  # type: ignore[misc]
        case _:
            return ast.unparse(code)
