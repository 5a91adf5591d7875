from collections.abc import Callable

import pytest

from db.connect import Store
from db.operators import fleet
from db.operators.fleet import Readiness, WorkerState
from db.settings import Role
from workers.host.presence import Progress, Pulse

Stores = Callable[[Role], Store]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Told:
    """What a process would tell its pulse."""

    leases = 0
    state: WorkerState = "running"
    readiness = Readiness(["small"])

    def pulse(self, store: Store, progress: Progress) -> Pulse:
        return Pulse(
            store,
            "host:1",
            progress,
            device="cpu",
            threads=4,
            version="1",
            beat_seconds=3600,
            leases=lambda: self.leases,
            state=lambda: self.state,
            readiness=lambda: self.readiness,
            resident_bytes=lambda: 1 << 20,
        )


def test_a_process_stands_still_only_while_it_holds_something() -> None:
    clock = Clock()
    progress = Progress(clock)
    clock.now += 50
    assert progress.still_seconds(leases=1) == 50
    progress.made(3)
    assert progress.still_seconds(leases=1) == 0
    clock.now += 50
    assert progress.still_seconds(leases=0) == 0, "it had nothing to do"
    clock.now += 5
    assert (progress.still_seconds(leases=2), progress.rows) == (5, 3)


def test_a_pulse_tells_and_hears(stores: Stores) -> None:
    told, progress = Told(), Progress()
    pulse = told.pulse(stores(Role.WORKER), progress)
    pulse.beat_once()
    assert not pulse.asked_to_drain
    fleet.ask(stores(Role.DISPATCHER), ["host:1"], "drain")
    told.leases, told.state = 2, "draining"
    told.readiness = Readiness(["small", "local:large"], loading="small", loading_seconds=4.0)
    progress.made(9)
    pulse.beat_once()
    assert pulse.asked_to_drain
    (seen,) = fleet.list_workers(stores(Role.DISPATCHER))
    assert (seen.state, seen.leases, seen.rows_done, seen.memory_bytes) == ("draining", 2, 9, 1 << 20)
    assert seen.loading == "small"
    fleet.ask(stores(Role.DISPATCHER), ["host:1"], "resume")
    pulse.beat_once()
    assert not pulse.asked_to_drain


def test_a_row_that_was_removed_is_made_again(stores: Stores) -> None:
    pulse = Told().pulse(stores(Role.WORKER), Progress())
    pulse.beat_once()
    fleet.forget(stores(Role.DISPATCHER), "host:1")
    pulse.beat_once()
    assert len(fleet.list_workers(stores(Role.DISPATCHER))) == 1


def test_a_worker_that_was_asked_to_drain_still_is_when_its_row_was_removed(stores: Stores) -> None:
    pulse = Told().pulse(stores(Role.WORKER), Progress())
    pulse.beat_once()
    fleet.ask(stores(Role.DISPATCHER), ["host:1"], "drain")
    pulse.beat_once()
    fleet.forget(stores(Role.DISPATCHER), "host:1")
    pulse.beat_once()
    assert pulse.asked_to_drain
    assert [each.asked for each in fleet.list_workers(stores(Role.DISPATCHER))] == ["drain"]
    fleet.ask(stores(Role.DISPATCHER), ["host:1"], "resume")
    pulse.beat_once()
    fleet.forget(stores(Role.DISPATCHER), "host:1")
    pulse.beat_once()
    assert not pulse.asked_to_drain


def test_a_beat_that_fails_anywhere_is_told_by_type_and_place_and_the_next_one_beats(
    stores: Stores, caplog: pytest.LogCaptureFixture
) -> None:
    told = Told()
    pulse = told.pulse(stores(Role.WORKER), Progress())

    def fail() -> int:
        raise RuntimeError("with a detail that is not shown")

    pulse._resident_bytes = fail
    for _ in range(2):
        pulse.beat_once()
    assert caplog.text.count("operators do not see this worker (RuntimeError") == 1
    assert "detail" not in caplog.text
    pulse._resident_bytes = lambda: 1 << 20
    pulse.beat_once()
    assert len(fleet.list_workers(stores(Role.DISPATCHER))) == 1


def test_a_store_that_is_away_changes_nothing_of_what_was_asked_and_is_told_once(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pulse = Told().pulse(stores(Role.WORKER), Progress())
    pulse.beat_once()
    fleet.ask(stores(Role.DISPATCHER), ["host:1"], "drain")
    pulse.beat_once()

    def away(*_: object) -> None:
        raise OSError("with a detail that is not shown")

    with monkeypatch.context() as broken:
        broken.setattr(fleet, "beat", away)
        pulse.beat_once()
        pulse.beat_once()
    assert pulse.asked_to_drain
    assert caplog.text.count("operators do not see this worker (OSError") == 1
    assert "detail" not in caplog.text


def test_a_process_that_ends_in_order_takes_its_row_along(stores: Stores) -> None:
    pulse = Told().pulse(stores(Role.WORKER), Progress())
    pulse.beat_once()
    pulse.stop()
    assert fleet.list_workers(stores(Role.DISPATCHER)) == []
