from uuid import UUID, uuid4

import pytest

from db.settings import StoreSettings
from workers import app as messages

SHARD = UUID(int=5)


@pytest.fixture(autouse=True)
def connected(settings: StoreSettings) -> None:
    messages.connect(settings)


def test_json_is_the_only_content_type() -> None:
    conf = messages.app.conf
    assert conf.accept_content == ["json"]
    assert {conf.task_serializer, conf.result_serializer, conf.event_serializer} == {"json"}


def test_leases_rule_and_celery_remembers_nothing() -> None:
    conf = messages.app.conf
    assert not conf.task_acks_late
    assert conf.task_ignore_result
    assert conf.result_backend is None
    assert conf.worker_prefetch_multiplier == 1
    assert conf.worker_disable_prefetch
    assert conf.worker_send_task_events
    assert conf.broker_connection_retry_on_startup
    assert conf.broker_connection_max_retries is None


def test_a_claim_check_is_read() -> None:
    assert messages.read_claim_check((), {"shard_id": str(SHARD), "epoch": 3}) == (SHARD, 3)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {}),
        ((), {"shard_id": str(SHARD)}),
        ((str(SHARD), 1), {}),
        (("extra",), {"shard_id": str(SHARD), "epoch": 1}),
        ((), {"shard_id": str(SHARD), "epoch": 1, "v": 2}),
        ((), {"shard_id": str(SHARD), "epoch": "1"}),
        ((), {"shard_id": str(SHARD), "epoch": True}),
        ((), {"shard_id": str(SHARD), "epoch": -1}),
        ((), {"shard_id": str(SHARD), "epoch": 2**40}),
        ((), {"shard_id": str(SHARD), "epoch": 1.5}),
        ((), {"shard_id": 5, "epoch": 1}),
        ((), {"shard_id": "x" * 36, "epoch": 1}),
        ((), {"shard_id": "'; drop table rows; --", "epoch": 1}),
        ((), {"shard_id": {"$ne": None}, "epoch": [1]}),
    ],
)
def test_anything_else_is_dropped_and_not_quoted(
    args: tuple[object, ...], kwargs: dict[str, object], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[UUID, int]] = []
    monkeypatch.setattr(messages, "_runner", lambda shard_id, epoch: ran.append((shard_id, epoch)))
    messages.run_shard.run(*args, **kwargs)
    assert ran == []
    assert [record.getMessage() for record in caplog.records] == ["dropped a message that is not a claim check"]


def test_a_claim_check_runs_what_the_process_said(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[UUID, int]] = []
    messages.run_with(lambda shard_id, epoch: ran.append((shard_id, epoch)))
    try:
        shard = uuid4()
        messages.run_shard.run(shard_id=str(shard), epoch=2)
    finally:
        messages.run_with(None)
    assert ran == [(shard, 2)]
