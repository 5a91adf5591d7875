"""A key that is revoked, or runs out, ends what is under way with it, on record; what others do goes on."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from db.actors import Actor
from db.audit.reading import list_events
from db.errors import KeyEnded
from db.files.files import create_file
from db.files.rows import NewRow, RowWriter, iter_rows
from db.jobs.jobs import get_job, watch_job
from db.jobs.results import iter_results
from db.operators.api_keys import SCOPES, authenticate, create_api_key, revoke_api_key
from tests.db.conftest import AsSuperuser
from tests.db.flow import Flow, Stores


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


@pytest.fixture
def holder(flow: Flow, tenant: Actor) -> Actor:
    """Somebody with a key of their own."""
    return authenticate(flow.api, create_api_key(flow.api, tenant.tenant_id, uuid4(), "theirs", SCOPES)[1])


def revoke(flow: Flow, tenant: Actor, holder: Actor) -> None:
    assert holder.key_id is not None
    revoke_api_key(flow.api, tenant, holder.key_id)


def outcomes(flow: Flow, holder: Actor, action: str) -> list[str]:
    """Of what was tried with the holder's key."""
    found = list_events(flow.api, replace(holder, key_id=None), action=action)
    return [event.outcome for event in reversed(found) if event.key_id == holder.key_id]


def test_results_are_read_page_by_page_and_no_further_than_the_key_goes(flow: Flow, tenant: Actor, holder: Actor) -> None:
    job = flow.job(tenant, 10)
    flow.answer(flow.claim(), range(10))
    lines = iter_results(flow.api, holder, job.job_id, which="output", page=4)
    next(lines)
    revoke(flow, tenant, holder)
    assert read_on(lines) == 3
    assert outcomes(flow, holder, "results.read") == ["allowed", "denied"]
    assert len(list(iter_results(flow.api, tenant, job.job_id, which="output", page=4))) == 10


def read_on(lines: Iterator[object]) -> int:
    """How many come before the key is seen to be over."""
    read = 0
    try:
        for _ in lines:
            read += 1
    except KeyEnded:
        return read
    raise AssertionError("all of them came")


def test_an_uploaded_file_is_read_back_no_further_than_the_key_goes(flow: Flow, tenant: Actor, holder: Actor) -> None:
    rows = iter_rows(flow.api, holder, flow.upload(tenant, 10).file_id, page=3)
    next(rows)
    revoke(flow, tenant, holder)
    assert read_on(rows) == 2
    assert outcomes(flow, holder, "rows.read") == ["allowed", "denied"]


def test_an_upload_that_ends_after_its_key_leaves_no_file(flow: Flow, tenant: Actor, holder: Actor) -> None:
    record = create_file(flow.api, holder, name="a", purpose="rows")
    writer = RowWriter(flow.api, holder, record)
    writer.append([NewRow(1, None, None, None, b'{"input":"x"}', 1)])
    revoke(flow, tenant, holder)
    with pytest.raises(KeyEnded):
        writer.finish(size_bytes=1, content_bytes=1)
    assert outcomes(flow, holder, "file.write") == ["denied"]


def test_a_key_that_was_looked_up_a_moment_ago_is_of_no_use_once_it_is_revoked(flow: Flow, tenant: Actor, holder: Actor) -> None:
    """A front keeps a good key for seconds; twelve reads were allowed so."""
    job = flow.job(tenant, 2)
    get_job(flow.api, holder, job.job_id)
    revoke(flow, tenant, holder)
    for _ in range(3):
        with pytest.raises(KeyEnded):
            get_job(flow.api, holder, job.job_id)
    assert outcomes(flow, holder, "job.read") == ["allowed", "denied", "denied", "denied"]


def test_who_watches_a_job_or_reads_the_record_does_so_no_longer_than_the_key_goes(flow: Flow, tenant: Actor, holder: Actor) -> None:
    """A look that is on record in this hour already is one all the same."""
    job = flow.job(tenant, 2)
    watch_job(flow.api, holder, job.job_id)
    list_events(flow.api, holder)
    revoke(flow, tenant, holder)
    with pytest.raises(KeyEnded):
        watch_job(flow.api, holder, job.job_id)
    with pytest.raises(KeyEnded):
        list_events(flow.api, holder)
    assert outcomes(flow, holder, "job.read") == ["allowed", "denied"]
    assert outcomes(flow, holder, "audit.list") == ["allowed", "denied"]


def test_a_key_that_runs_out_ends_what_is_under_way(flow: Flow, tenant: Actor, as_superuser: AsSuperuser) -> None:
    ends = datetime.now(UTC) + timedelta(hours=1)
    key_id, presented = create_api_key(flow.api, tenant.tenant_id, uuid4(), "theirs", SCOPES, ends)
    holder, job = authenticate(flow.api, presented), flow.job(tenant, 2)
    get_job(flow.api, holder, job.job_id)
    as_superuser("UPDATE api_keys SET expires_at = now() WHERE key_id = %s", [key_id])
    with pytest.raises(KeyEnded):
        get_job(flow.api, holder, job.job_id)


def test_a_key_may_revoke_itself(flow: Flow, tenant: Actor, holder: Actor) -> None:
    revoke(flow, holder, holder)
    assert outcomes(flow, holder, "key.revoke") == ["allowed"]
    with pytest.raises(KeyEnded):
        revoke(flow, holder, holder)


def test_what_another_key_of_the_same_tenant_does_goes_on(flow: Flow, tenant: Actor, holder: Actor) -> None:
    other = authenticate(flow.api, create_api_key(flow.api, tenant.tenant_id, uuid4(), "another", SCOPES)[1])
    job = flow.job(tenant, 2)
    revoke(flow, tenant, holder)
    get_job(flow.api, other, job.job_id)
