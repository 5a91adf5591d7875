"""What came out of a soak: lines for the terminal, a JSON file, and a markdown file to commit. Pure but for `write`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.goals import markdown_table, text_table
from tests.faults.counters import ALWAYS_ZERO, Counters
from tests.faults.soak.plan import Kind
from tests.faults.soak.watching import median_and_max

CLEAN: Final = 0
NOT_CLEAN: Final = 1
TOO_FEW: Final = 2


@dataclass(frozen=True, slots=True)
class Report:
    """``went_on``: the rows were not through in time. ``asked_rows``, ``asked_real_rows``: how many there had to be at least.
    ``recoveries``: seconds from a fault's end to the next row done, by kind. ``unexpected_ends``: exit codes of processes that nobody had
    killed. ``ended``: jobs by their last state. ``left_of_deleted``: rows of the store that a job left which was deleted."""

    seed: int
    asked_minutes: float
    minutes: float
    went_on: bool
    asked_rows: int
    asked_real_rows: int
    rows: int
    real_rows: int
    ended: Mapping[str, int]
    counters: Counters
    left_of_deleted: int
    fenced: int
    faults: Mapping[Kind, int]
    recoveries: Mapping[Kind, Sequence[float]]
    longest_stall_seconds: float
    undisturbed_rate: float
    disturbed_rate: float
    drain_seconds: float
    drain_limit_seconds: float
    starts: int
    drain_codes: Mapping[int, int]
    unexpected_ends: Mapping[int, int]
    peak_disk_bytes: int
    machine: Mapping[str, Any]

    @property
    def enough(self) -> bool:
        return self.rows >= self.asked_rows and self.real_rows >= self.asked_real_rows

    @property
    def exit_code(self) -> int:
        if not self.counters.clean or self.left_of_deleted:
            return NOT_CLEAN
        return CLEAN if self.enough else TOO_FEW


def verdict(report: Report) -> str:
    """One sentence."""
    bad = [f"{name} {getattr(report.counters, name)}" for name in ALWAYS_ZERO if getattr(report.counters, name)]
    if report.left_of_deleted:
        bad.append(f"left of deleted jobs {report.left_of_deleted}")
    said = "NOT CLEAN: " + ", ".join(bad) if bad else "Clean: of all rows none was lost, doubled, wrong, unaudited or miscounted"
    few = f"{report.rows:,} of {report.asked_rows:,} rows, {report.real_rows:,} of {report.asked_real_rows:,} of the real model"
    if not report.enough:
        said += f". TOO FEW: {few}"
    elif report.went_on:
        said += f". It took {report.minutes:.0f} minutes, not {report.asked_minutes:.0f}, until so many rows were through"
    return said + "."


def counted(report: Report) -> list[tuple[str, str]]:
    ratio = report.disturbed_rate / report.undisturbed_rate if report.undisturbed_rate else 0.0
    every = [one for seconds in report.recoveries.values() for one in seconds]
    return [
        ("rows of the null model", f"{report.rows:,}"),
        ("rows of the real model", f"{report.real_rows:,}"),
        ("jobs", ", ".join(f"{number:,} {state}" for state, number in sorted(report.ended.items()))),
        *((name, f"{getattr(report.counters, name):,}") for name in ALWAYS_ZERO),
        ("left of deleted jobs", f"{report.left_of_deleted:,}"),
        ("chain", "–" if report.counters.chain is None else f"{report.counters.chain:,}"),
        ("fenced", f"{report.fenced:,}"),
        ("recomputed", f"{report.counters.recomputed:,} ({report.counters.recomputed / max(1, report.rows):.2%})"),
        ("faults", f"{sum(report.faults.values()):,}"),
        ("rows a second, undisturbed", f"{report.undisturbed_rate:,.0f}"),
        ("rows a second, under faults", f"{report.disturbed_rate:,.0f} ({ratio:.0%})"),
        ("fault to next row done, median; max", _both(every)),
        ("longest time without a row done", f"{report.longest_stall_seconds:.1f} s"),
        ("everything at an end after the last fault", f"{report.drain_seconds:.0f} s (limit {report.drain_limit_seconds:.0f} s)"),
        ("processes started", f"{report.starts:,}"),
        ("exit codes of drained workers", _codes(report.drain_codes)),
        ("exit codes that nobody had asked for", _codes(report.unexpected_ends)),
        ("disk, at most", f"{report.peak_disk_bytes / 1e9:.1f} GB"),
    ]


def by_kind(report: Report) -> list[tuple[str, str, str]]:
    return [(kind.value, str(report.faults.get(kind, 0)), _both(report.recoveries.get(kind, []))) for kind in Kind]


KIND_HEAD: Final = ("fault", "times", "to the next row done, median; max")


def on_the_terminal(report: Report) -> str:
    tables = text_table(("what", "figure"), counted(report)), text_table(KIND_HEAD, by_kind(report))
    return "\n\n".join((*tables, f"{verdict(report)} Seed {report.seed}."))


def as_markdown(report: Report) -> str:
    machine = report.machine
    about = (
        f"Seed {report.seed}, {report.minutes:.1f} minutes, on {machine.get('cpu')} with {machine.get('cores')} cores and "
        f"{machine.get('memory_gb')} GB, Python {machine.get('python')}, revision {machine.get('revision')}"
        f" ({machine.get('changed_files')} files changed)."
    )
    parts = (
        "# Soak",
        verdict(report),
        about,
        markdown_table(("what", "figure"), counted(report)),
        "## Faults",
        markdown_table(KIND_HEAD, by_kind(report)),
    )
    return "\n\n".join(parts) + "\n"


def write(path: Path, report: Report) -> None:
    path.write_text(json.dumps({**asdict(report), "verdict": verdict(report), "exit_code": report.exit_code}, indent=2) + "\n")
    path.with_suffix(".md").write_text(as_markdown(report))


def _both(seconds: Sequence[float]) -> str:
    both = median_and_max(seconds)
    return "–" if both is None else f"{both[0]:.1f} s; {both[1]:.1f} s"


def _codes(codes: Mapping[int, int]) -> str:
    return ", ".join(f"{code} ({number} times)" for code, number in sorted(codes.items())) or "none"
