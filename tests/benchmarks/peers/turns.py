"""Who runs when: ours and every peer once a turn, in turns, until the turns or the time are over. No I/O of its own."""

import functools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.benchmarks.peers.protocol import PeerFailed, Run
from tests.benchmarks.peers.texts import sample

FIRST_LOOK_DOCS: Final = 64  # untimed: warms the peer to these lengths, and says how many texts fit a run
LOOK_SHARE: Final = 0.25  # of a run's seconds: a shorter look says too little
WHOLE_IF_WITHIN: Final = 1.6  # runs' worth of seconds: rather all texts a little longer than nearly all
LEAST_DOCS: Final = 64


@dataclass
class Contender:
    """``go`` runs these rows of the workload. ``run_seconds``: what fits in them is run, all texts at best; None: as the others.
    ``look_docs``: texts of the first look. ``reason``: why it does not run, or not any longer."""

    name: str
    about: str
    go: Callable[[Sequence[int]], Run]
    run_seconds: float | None = None
    look_docs: int = FIRST_LOOK_DOCS
    reason: str | None = None
    rows: Sequence[int] = ()
    runs: list[Run] = field(default_factory=list)

    @property
    def speeds(self) -> list[float]:
        return [run.docs_per_second for run in self.runs]

    @property
    def median(self) -> float | None:
        """docs/s."""
        return statistics.median(self.speeds) if self.runs else None

    @property
    def docs_per_cpu_second(self) -> float | None:
        return statistics.median(run.docs_per_cpu_second for run in self.runs) if self.runs else None


def take_turns(
    contenders: Sequence[Contender],
    texts: Sequence[str],
    *,
    turns: int,
    run_seconds: float,
    deadline: float,
    told: Callable[[str], None],
    dropped: Callable[[Contender], None],
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Fills ``runs``. ``deadline`` by ``clock``: no run begins after it. Each turn begins with another contender, so that nobody always
    follows the same one. ``dropped`` is called for one that failed."""
    for one in contenders:
        if one.reason is None and clock() < deadline:
            _attempt(one, dropped, functools.partial(_look, one, texts, run_seconds))
    for turn in range(turns):
        first = turn * len(contenders) // max(1, turns)
        for one in (*contenders[first:], *contenders[:first]):
            if one.reason is not None or not one.rows or clock() >= deadline:
                continue
            _attempt(one, dropped, functools.partial(_go, one))
            if one.reason is None:
                told(f"turn {turn + 1}: {one.name} {one.runs[-1].docs_per_second:,.1f} docs/s ({one.runs[-1].docs:,} texts)")


def _go(one: Contender) -> None:
    one.runs.append(one.go(one.rows))


def _look(one: Contender, texts: Sequence[str], run_seconds: float) -> None:
    """Again with more texts while it is over too soon: the first batches of a process that has only just loaded are its slowest."""
    seconds = one.run_seconds or run_seconds
    looked = one.go(sample(texts, one.look_docs))
    while looked.seconds < LOOK_SHARE * seconds and looked.docs < len(texts):
        looked = one.go(sample(texts, 4 * looked.docs))
    one.rows = sample(texts, fitting(looked.docs_per_second, len(texts), seconds))


def fitting(docs_per_second: float, count: int, run_seconds: float) -> int:
    """How many of ``count`` texts a peer of that speed runs."""
    if count <= docs_per_second * run_seconds * WHOLE_IF_WITHIN:
        return count
    return min(count, max(LEAST_DOCS, round(docs_per_second * run_seconds)))


def _attempt(one: Contender, dropped: Callable[[Contender], None], action: Callable[[], None]) -> None:
    try:
        action()
    except PeerFailed as error:
        one.reason = str(error)
        dropped(one)


def agreement(run: Run, rows: Sequence[int], reference: Sequence[int]) -> float:
    """The share of texts with the label that fp32 gives."""
    return sum(label == reference[row] for label, row in zip(run.labels, rows, strict=True)) / len(rows)
