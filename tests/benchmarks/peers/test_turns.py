from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks.peers.protocol import PeerFailed, Run
from tests.benchmarks.peers.turns import FIRST_LOOK_DOCS, Contender, agreement, fitting, take_turns

TEXTS = ["a text"] * 1000


class Stopwatch:
    """Time that passes only while somebody runs."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order: list[tuple[str, int]] = []

    def contender(
        self, name: str, docs_per_second: float, *, run_seconds: float | None = None, look_docs: int = FIRST_LOOK_DOCS, fails_at: int = -1
    ) -> Contender:
        def go(rows: Sequence[int]) -> Run:
            if len([one for one, _ in self.order if one == name]) == fails_at:
                raise PeerFailed("it has ended")
            self.order.append((name, len(rows)))
            self.now += len(rows) / docs_per_second
            return Run(len(rows) / docs_per_second, 1.0, tuple(0 for _ in rows))

        return Contender(name, name, go, run_seconds, look_docs)

    def take_turns(self, *contenders: Contender, turns: int = 3, deadline: float = 1e9) -> list[str]:
        dropped: list[str] = []
        take_turns(
            contenders,
            TEXTS,
            turns=turns,
            run_seconds=10.0,
            deadline=deadline,
            told=lambda line: None,
            dropped=lambda one: dropped.append(one.name),
            clock=lambda: self.now,
        )
        return dropped


def test_everybody_runs_once_a_turn_after_an_untimed_first_look() -> None:
    watch = Stopwatch()
    ours, peer = watch.contender("ours", 500.0, run_seconds=30.0, look_docs=300), watch.contender("peer", 200.0)
    watch.take_turns(ours, peer)
    names = [name for name, _ in watch.order[-6:]]
    assert sorted(names[:2]) == sorted(names[2:4]) == sorted(names[4:]) == ["ours", "peer"]
    assert len(ours.runs) == len(peer.runs) == 3


def test_a_look_that_is_over_too_soon_is_repeated_with_more_texts() -> None:
    watch = Stopwatch()
    watch.take_turns(watch.contender("slow", 20.0), watch.contender("fast", 100.0), turns=0)
    assert watch.order == [("slow", 64), ("fast", 64), ("fast", 256)]


def test_turns_do_not_always_begin_with_the_same_one() -> None:
    watch = Stopwatch()
    watch.take_turns(*(watch.contender(name, 500.0) for name in "abc"))
    assert [name for name, _ in watch.order[-9:]] == list("abcbcacab")


def test_a_slow_peer_runs_a_sample_and_a_fast_one_everything() -> None:
    watch = Stopwatch()
    slow, fast = watch.contender("slow", 20.0), watch.contender("fast", 90.0)
    watch.take_turns(slow, fast)
    assert (len(slow.rows), len(fast.rows)) == (200, 1000)
    assert slow.median == pytest.approx(20.0)


def test_who_has_more_time_runs_more_texts() -> None:
    watch = Stopwatch()
    ours = watch.contender("ours", 20.0, run_seconds=30.0)
    watch.take_turns(ours)
    assert len(ours.rows) == 600


def test_one_that_fails_is_dropped_and_the_others_go_on() -> None:
    watch = Stopwatch()
    lost, other = watch.contender("lost", 100.0, fails_at=3), watch.contender("other", 100.0)
    assert watch.take_turns(lost, other) == ["lost"]
    assert (len(lost.runs), lost.reason) == (1, "it has ended")
    assert len(other.runs) == 3


def test_one_that_does_not_run_is_never_called() -> None:
    watch = Stopwatch()
    absent = watch.contender("absent", 100.0)
    absent.reason = "not installed"
    watch.take_turns(absent, watch.contender("other", 100.0))
    assert "absent" not in dict(watch.order)


def test_nothing_begins_after_the_deadline() -> None:
    watch = Stopwatch()
    peer = watch.contender("peer", 100.0)
    watch.take_turns(peer, turns=100, deadline=35.0)
    assert watch.now <= 35.0 + 10.0
    assert len(peer.runs) == 4


@given(speed=st.floats(0.01, 1e6), count=st.integers(1, 10_000), seconds=st.floats(0.1, 60))
def test_a_run_holds_some_texts_and_never_more_than_there_are(speed: float, count: int, seconds: float) -> None:
    docs = fitting(speed, count, seconds)
    assert min(count, 64) <= docs <= count


def test_agreement_compares_each_sampled_row_with_its_own_reference() -> None:
    assert agreement(Run(1.0, 1.0, (1, 2, 0, 0)), [0, 2, 4, 6], [1, 9, 2, 9, 0, 9, 3]) == 0.75
