"""Seconds by stage, and how long a job was in flight."""

from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers import metrics
from workers.batches.outcomes import BatchReport
from workers.shard.in_flight import InFlight
from workers.stages import STAGES, StageSeconds, queued, stage_seconds

SECONDS = st.floats(0, 1e6)
JOB, OTHER = uuid4(), uuid4()


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@given(st.lists(st.builds(StageSeconds, *[SECONDS] * len(STAGES)), max_size=5))
def test_stages_add_up_and_come_back_from_a_jobs_metrics(parts: list[StageSeconds]) -> None:
    total = StageSeconds()
    for part in parts:
        total.add(part)
    assert stage_seconds(total.as_dict()) == {stage: sum(getattr(part, stage) for part in parts) for stage in STAGES}


def test_the_queue_is_what_a_call_waited_beyond_its_own_rows() -> None:
    assert queued(5.0, 3.0) == 2.0
    assert queued(2.0, 3.0) == 0.0, "two lanes did three seconds of work in two"


def test_shards_of_one_job_at_the_same_time_count_once(clock: Clock) -> None:
    in_flight = InFlight(clock)
    in_flight.enter(JOB)
    clock.now += 1
    in_flight.enter(JOB)
    clock.now += 2
    assert in_flight.take(JOB).held_seconds == 3
    in_flight.leave(JOB)
    clock.now += 4
    assert in_flight.take(JOB).held_seconds == 4


def test_time_without_a_shard_of_the_job_does_not_count(clock: Clock) -> None:
    in_flight = InFlight(clock)
    in_flight.enter(JOB)
    in_flight.enter(OTHER)
    in_flight.leave(JOB)
    clock.now += 50
    in_flight.enter(JOB)
    clock.now += 1
    assert in_flight.take(JOB).held_seconds == 1
    assert in_flight.take(OTHER).held_seconds == 51


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 10)), max_size=30))
def test_what_is_taken_sums_to_the_time_in_flight(steps: list[tuple[bool, float]]) -> None:
    clock = Clock()
    in_flight = InFlight(clock)
    in_flight.enter(JOB)
    began, taken = clock.now, 0.0
    for look, seconds in steps:
        clock.now += seconds
        if look:
            taken += in_flight.take(JOB).held_seconds
    assert taken + in_flight.take(JOB).held_seconds == pytest.approx(clock.now - began)


@given(st.lists(st.tuples(st.sampled_from(["enter", "leave", "take"]), st.sampled_from([JOB, OTHER]), st.floats(0, 10)), max_size=40))
def test_what_jobs_had_of_a_worker_sums_to_the_time_that_it_was_busy(steps: list[tuple[str, UUID, float]]) -> None:
    clock = Clock()
    in_flight = InFlight(clock)
    shards = {JOB: 0, OTHER: 0}
    busy = taken = 0.0
    for step, job, seconds in steps:
        if step == "enter":
            in_flight.enter(job)
            shards[job] += 1
        elif shards[job]:
            taken += in_flight.take(job).worker_seconds
            if step == "leave":
                in_flight.leave(job)
                shards[job] -= 1
        clock.now += seconds
        busy += seconds if any(shards.values()) else 0.0
    taken += sum(in_flight.take(job).worker_seconds for job, held in shards.items() if held)
    assert taken == pytest.approx(busy)


def test_a_job_with_three_shards_of_four_in_flight_has_three_quarters_of_the_worker(clock: Clock) -> None:
    in_flight = InFlight(clock)
    for job in (JOB, JOB, JOB, OTHER):
        in_flight.enter(job)
    clock.now += 8
    assert [in_flight.take(job).worker_seconds for job in (JOB, OTHER)] == [6, 2]


def test_what_a_job_waited_for_while_its_model_loaded_is_no_part_of_what_its_rows_take(clock: Clock) -> None:
    in_flight = InFlight(clock)
    in_flight.enter(JOB)
    clock.now += 30
    in_flight.loaded(JOB)
    clock.now += 2
    taken = in_flight.take(JOB)
    assert (taken.held_seconds, taken.worker_seconds) == (32, 2)


def test_a_commit_that_was_measured_too_late_goes_with_the_next_write(clock: Clock) -> None:
    in_flight = InFlight(clock)
    in_flight.enter(JOB)
    in_flight.come_late(JOB, StageSeconds(commit=0.25))
    in_flight.come_late(JOB, StageSeconds(commit=0.25))
    assert in_flight.take(JOB).late.commit == 0.5
    assert in_flight.take(JOB).late.commit == 0


def test_prometheus_counts_stages_by_task_and_lanes_by_model() -> None:
    def sample(name: str, **labels: str) -> float:
        return metrics.REGISTRY.get_sample_value(name, labels) or 0.0

    before = sample("textmill_stage_seconds_total", stage="seal", task="classify")
    busy = sample("textmill_lane_busy_seconds_total", model="a-model")
    metrics.observe_stages("classify", StageSeconds(seal=0.5))
    metrics.observe_batch("a-model", BatchReport(rows=1, tokens=8, padding_tokens=0, budget_tokens=16, seconds=2.0, lanes=3))
    assert sample("textmill_stage_seconds_total", stage="seal", task="classify") == before + 0.5
    assert sample("textmill_lane_busy_seconds_total", model="a-model") == busy + 2.0
    assert sample("textmill_lanes", model="a-model") == 3
