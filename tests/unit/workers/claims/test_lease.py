from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest

from db.actors import Lease
from db.connect import Store
from db.queue import shards
from workers.claims.lease import Held, LeaseKeeper

LEASE, MARGIN = 30.0, 5.0


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def a_lease() -> Lease:
    return Lease(
        tenant_id=uuid4(),
        shard_id=uuid4(),
        job_id=uuid4(),
        file_id=uuid4(),
        epoch=1,
        first_idx=0,
        end_idx=10,
        task="classify",
        endpoint="/v1/classifications",
        model="fake-encoder",
        head_id=None,
    )


Verdicts = Callable[[Sequence[Lease]], dict[UUID, str]]


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[Verdicts], None]:
    """Sets what the store says at a renewal."""

    def set_answer(verdicts: Verdicts) -> None:
        def renew(_store: Store, leases: Sequence[Lease], **_: Any) -> dict[UUID, str]:
            return verdicts(leases)

        monkeypatch.setattr(shards, "renew", renew)

    return set_answer


def a_keeper(clock: Clock) -> LeaseKeeper:
    nothing: Any = None
    return LeaseKeeper(nothing, lease_seconds=LEASE, heartbeat_seconds=5, margin_seconds=MARGIN, clock=clock)


def unreachable(_: Sequence[Lease]) -> dict[UUID, str]:
    raise OSError("the store is away")


def test_a_lease_that_is_renewed_goes_on(answer: Callable[[Verdicts], None]) -> None:
    clock = Clock()
    keeper = a_keeper(clock)
    held = keeper.hold(a_lease(), keeper.now())
    answer(lambda leases: {lease.shard_id: "held" for lease in leases})
    for _ in range(20):
        clock.now += 5
        assert keeper.renew_once()
        assert not held.is_set()


def test_a_lease_that_cannot_be_renewed_ends_itself_before_the_store_gives_it_away(answer: Callable[[Verdicts], None]) -> None:
    clock = Clock()
    keeper = a_keeper(clock)
    held = keeper.hold(a_lease(), keeper.now())
    answer(unreachable)
    clock.now += LEASE - MARGIN - 0.01
    assert not keeper.renew_once()
    assert not held.is_set()
    clock.now += 0.01
    assert held.is_set()
    assert held.ended == "lost"


def test_a_keeper_that_hangs_does_not_keep_a_lease_alive() -> None:
    clock = Clock()
    held = Held(a_lease(), clock.now + 10, clock)
    clock.now += 10
    assert held.is_set()


@pytest.mark.parametrize("verdict", ["lost", "cancelled"])
def test_the_stores_verdict_stops_the_shard(answer: Callable[[Verdicts], None], verdict: str) -> None:
    keeper = a_keeper(Clock())
    held = keeper.hold(a_lease(), keeper.now())
    answer(lambda leases: {lease.shard_id: verdict for lease in leases})
    assert keeper.renew_once()
    assert held.is_set()
    assert held.ended == verdict


def test_a_lease_the_store_does_not_know_is_lost(answer: Callable[[Verdicts], None]) -> None:
    keeper = a_keeper(Clock())
    held = keeper.hold(a_lease(), keeper.now())
    answer(lambda _: {})
    keeper.renew_once()
    assert held.ended == "lost"


def test_only_leases_that_are_held_are_renewed_and_all_in_one_question(answer: Callable[[Verdicts], None]) -> None:
    keeper = a_keeper(Clock())
    kept = [keeper.hold(a_lease(), keeper.now()) for _ in range(3)]
    dropped = keeper.hold(a_lease(), keeper.now())
    keeper.drop(dropped)
    asked: list[int] = []

    def count(leases: Sequence[Lease]) -> dict[UUID, str]:
        asked.append(len(leases))
        return {lease.shard_id: "held" for lease in leases}

    answer(count)
    keeper.renew_once()
    assert asked == [len(kept)]


def test_the_first_reason_stays() -> None:
    held = Held(a_lease(), 1e9, Clock())
    held.end("cancelled")
    held.end("lost")
    assert held.ended == "cancelled"


def test_a_renewal_that_took_long_counts_from_when_it_was_asked_for(answer: Callable[[Verdicts], None]) -> None:
    clock = Clock()
    keeper = a_keeper(clock)
    held = keeper.hold(a_lease(), keeper.now())

    def slow(leases: Sequence[Lease]) -> dict[UUID, str]:
        clock.now += 20  # the store renewed at once; its answer was long on the way
        return {lease.shard_id: "held" for lease in leases}

    answer(slow)
    assert keeper.renew_once()
    clock.now += LEASE - MARGIN - 20 - 0.01
    assert not held.is_set()
    clock.now += 0.01
    assert held.is_set()
