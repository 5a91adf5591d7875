"""What a decoder's lanes tell of themselves: rows that were answered, each once, and what is under way."""

import threading

import pytest

from tests.unit.workers.inference.test_continuous import AWAY, HUGE, LOST, POISON, SPOILT, WAIT_SECONDS, Make, a_row, make
from tests.waiting import wait_until
from workers import metrics
from workers.batches.outcomes import BatchReport, EngineAway, EngineBroken, Load, Spoken
from workers.batches.ticket import Ticket
from workers.inference.continuous import ContinuousBatcher

__all__ = ["make"]


def under_way(batcher: ContinuousBatcher) -> tuple[int, int, int | None]:
    load = batcher.load()
    return load.slots_in_use, load.promised_tokens, load.kv_tokens


def test_each_answer_is_told_once_with_its_tokens_and_times(make: Make) -> None:
    reports: list[BatchReport] = []
    batcher, _ = make(rows=2, observe=reports.append)
    call = batcher.submit([a_row(3, prompt_tokens=5), a_row(1), a_row(4), a_row(2, SPOILT)], Ticket(interactive=True))
    call.result(WAIT_SECONDS)
    told = [one for report in reports for one in report.spoken]
    assert sorted((one.prompt_tokens, one.output_tokens) for one in told) == [(1, 1), (1, 4), (5, 3)]
    assert {(one.work, one.ending) for one in told} == {("interactive", "length")}
    for one in told:
        assert one.first_seconds is not None
        assert 0 <= one.slot_seconds <= one.first_seconds
        assert (one.next_seconds is None) == (one.output_tokens == 1)


@pytest.mark.parametrize("kind", [POISON, HUGE])
def test_rows_that_began_anew_are_told_once(make: Make, kind: int) -> None:
    """Their neighbour is to blame; what they had said before it broke the step counts for nothing."""
    reports: list[BatchReport] = []
    batcher, slots = make(rows=4, observe=reports.append)
    slots.hold()
    call = batcher.submit([a_row(3), a_row(2)])
    assert slots.entered.acquire(timeout=WAIT_SECONDS)
    poisonous = batcher.submit([a_row(2, kind)])
    slots.let_go.release(1_000_000)
    call.result(WAIT_SECONDS)
    poisonous.result(WAIT_SECONDS)
    told = [one for report in reports for one in report.spoken]
    assert sorted(one.output_tokens for one in told) == [2, 3]
    assert call.share.times.total() == 4  # a first token and a next one of each


def test_slots_and_tokens_are_told_while_rows_run_and_given_back_at_their_end(make: Make) -> None:
    batcher, slots = make(rows=3, tokens=40)
    slots.hold()
    call = batcher.submit([a_row(2, prompt_tokens=4), a_row(2, prompt_tokens=4)])
    assert slots.entered.acquire(timeout=WAIT_SECONDS)
    load = batcher.load()
    assert (load.slots, load.most_tokens) == (3, 40)
    assert under_way(batcher) == (2, 12, 8)
    slots.let_go.release(1_000_000)
    call.result(WAIT_SECONDS)
    wait_until(lambda: under_way(batcher) == (0, 0, 0))
    assert batcher.load().slots == 3


@pytest.mark.parametrize(("kind", "error"), [(LOST, EngineBroken), (AWAY, EngineAway)])
def test_slots_are_given_back_when_the_engine_goes_away(make: Make, kind: int, error: type[Exception]) -> None:
    batcher, _ = make(rows=3)
    with pytest.raises(error):
        batcher.submit([a_row(2), a_row(2, kind)]).result(WAIT_SECONDS)
    if error is EngineAway:  # a lost device ends the process
        wait_until(lambda: under_way(batcher) == (0, 0, 0))


def test_slots_are_given_back_when_nobody_waits_any_more(make: Make) -> None:
    batcher, slots = make(rows=3)
    slots.hold()
    stop = threading.Event()
    batcher.submit([a_row(100), a_row(100)], Ticket(stop=stop))
    assert slots.entered.acquire(timeout=WAIT_SECONDS)
    stop.set()
    slots.let_go.release(1)
    wait_until(lambda: under_way(batcher) == (0, 0, 0))


def test_the_queue_is_told_by_class_and_how_many_tenants_share_it_and_never_whose_it_is(make: Make) -> None:
    batcher, slots = make(rows=1)
    slots.hold()
    batcher.submit([a_row()], Ticket(tenant="first"))
    assert slots.entered.acquire(timeout=WAIT_SECONDS)
    load = batcher.load()
    assert (load.tenants, load.largest_share, load.longest_seconds, load.waiting) == (0, 0.0, 0.0, {"interactive": 0, "bulk": 0})
    batcher.submit([a_row(8), a_row(8)], Ticket(tenant="first", job=b"1"))
    batcher.submit([a_row(8)], Ticket(tenant="second"))
    batcher.submit([a_row(8)], Ticket(tenant="second", interactive=True))
    batcher.submit([a_row(11)], Ticket(tenant="third"))
    load = batcher.load()
    assert load.waiting == {"interactive": 1, "bulk": 4}
    assert (load.tenants, load.largest_share) == (3, 18 / 48)
    assert load.longest_seconds > 0
    assert not {"first", "second", "third"} & set(str(load).split("'"))


def sample(name: str, **labels: str) -> float | None:
    return metrics.REGISTRY.get_sample_value(name, {"model": "a-decoder", **labels})


def test_prometheus_counts_tokens_as_computed_or_cached_and_a_first_token_once() -> None:
    one = Spoken("bulk", "stop", 100, 64, 9, 0.01, 0.3, 0.05)
    metrics.observe_batch("a-decoder", BatchReport(2, 2, 0, 4, 0.1, 1, (one, Spoken("bulk", "length", 10, 0, 1, 0.0, None, None))))
    assert sample("textmill_prompt_tokens_total", by="cached") == 64
    assert sample("textmill_prompt_tokens_total", by="computed") == 46
    assert sample("textmill_output_tokens_total") == 10
    assert sample("textmill_generations_total", ending="length") == 1
    assert sample("textmill_first_token_seconds_count", **{"class": "bulk"}) == 1
    assert sample("textmill_slot_wait_seconds_count", **{"class": "bulk"}) == 2
    assert sample("textmill_next_token_seconds_count") == 1


def test_prometheus_shows_the_decoders_that_are_there_when_it_asks() -> None:
    loads = {"a-decoder": Load(4, 3, None, 50, 100, {"interactive": 0, "bulk": 7}, 2, 0.75, 1.5)}
    metrics.decoders.tell(lambda: loads)
    try:
        assert sample("textmill_slots_in_use") == 3
        assert sample("textmill_waiting_rows", **{"class": "bulk"}) == 7
        assert sample("textmill_waiting_largest_ratio") == 0.75
        assert sample("textmill_kv_tokens") is None  # a server's
        del loads["a-decoder"]
        assert sample("textmill_slots") is None
    finally:
        metrics.decoders.tell(dict)
