"""Runs in turns (A B A B A B) and what they say together: medians, ranges, ratios. Whatever else slows the machine meets all of them."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

TURNS: Final = 3


@dataclass(frozen=True, slots=True)
class Run:
    """One run over ``rows`` documents. ``cpu_seconds``: of all processes that worked on it."""

    rows: int
    seconds: float
    cpu_seconds: float
    parts: Mapping[str, object] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Documents a second."""
        return self.rows / self.seconds

    @property
    def cpu_per_row(self) -> float:
        """CPU seconds of one document."""
        return self.cpu_seconds / self.rows


@dataclass(frozen=True, slots=True)
class Series:
    """The runs of one kind, in the order of the turns."""

    runs: Sequence[Run]

    @property
    def rate(self) -> float:
        return statistics.median(run.rate for run in self.runs)

    @property
    def cpu_per_row(self) -> float:
        return statistics.median(run.cpu_per_row for run in self.runs)

    def as_dict(self) -> dict[str, object]:
        rates = [run.rate for run in self.runs]
        return {
            "docs_per_second": self.rate,
            "docs_per_second_range": [min(rates), max(rates)],
            "docs_per_cpu_second": 1 / self.cpu_per_row if self.cpu_per_row else None,
            "runs": [{"rows": run.rows, "seconds": run.seconds, "cpu_seconds": run.cpu_seconds, **dict(run.parts)} for run in self.runs],
        }


@dataclass(frozen=True, slots=True)
class Ratio:
    """Of two series: of their medians, and the least and greatest of a turn's."""

    value: float
    least: float
    greatest: float
    by_cpu: float

    def as_dict(self) -> dict[str, float]:
        return {"ratio": self.value, "least": self.least, "greatest": self.greatest, "by_cpu_time": self.by_cpu}

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.least:.3f}–{self.greatest:.3f}; by CPU time {self.by_cpu:.3f})"


def ratio(ours: Series, other: Series) -> Ratio:
    """Speed of ours ÷ speed of the other; ``by_cpu`` is the documents of a CPU second of ours ÷ of the other."""
    each = [mine.rate / yours.rate for mine, yours in zip(ours.runs, other.runs, strict=True)]
    return Ratio(ours.rate / other.rate, min(each), max(each), other.cpu_per_row / ours.cpu_per_row if ours.cpu_per_row else 0.0)


def in_turns(
    runs: Mapping[str, Callable[[], Run]],
    *,
    turns: int = TURNS,
    allowance_seconds: float = float("inf"),
    clock: Callable[[], float] = time.perf_counter,
    say: Callable[[str], None] = print,
) -> dict[str, Series]:
    """``turns`` times each, one after the other. A turn that would pass the allowance, by what the slowest one took, is left out: on a
    slow or busy machine there are fewer turns, at least one, and the report says how many."""
    began = clock()
    slowest = 0.0
    done: dict[str, list[Run]] = {name: [] for name in runs}
    for turn in range(turns):
        turn_began = clock()
        if turn and turn_began - began + slowest > allowance_seconds:
            say(f"  {turn} of {turns} turns: another would not fit {allowance_seconds:.0f} s")
            break
        for name, run in runs.items():
            one = run()
            done[name].append(one)
            say(f"  turn {turn + 1}: {name} {one.rate:,.1f} docs/s, {one.seconds:.2f} s, {one.cpu_seconds:.2f} s of CPU")
        slowest = max(slowest, clock() - turn_began)
    return {name: Series(series) for name, series in done.items()}
