"""The matrix as a table: a line a test, with its counters. Pure but for `write`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tests.benchmarks.goals import markdown_table
from tests.faults.counters import ALWAYS_ZERO, Counters

ROWS: Final = tuple(f"F{number:02d}" for number in range(1, 46))
HEAD: Final = ("id", "fault", "verdict", *ALWAYS_ZERO, "chain", "recomputed", "facts", "s")


@dataclass(frozen=True, slots=True)
class Line:
    """A test of the matrix. ``outcome``: passed, failed or skipped, then for ``reason``."""

    id: str
    what: str
    test: str
    outcome: str
    seconds: float
    counted: Counters | None
    facts: Mapping[str, object]
    reason: str = ""


def cells(line: Line) -> tuple[str, ...]:
    counted = {} if line.counted is None else line.counted.as_dict()
    shown = [("–" if counted.get(name) is None else str(counted[name])) for name in (*ALWAYS_ZERO, "chain", "recomputed")]
    facts = ", ".join(f"{name} {value}" for name, value in line.facts.items())
    return (line.id, line.what, line.outcome, *shown, line.reason or facts, f"{line.seconds:.1f}")


def summary(lines: Sequence[Line]) -> str:
    """How many of the matrix's rows ran, and which did not. A row passes when all of its tests that ran did."""
    ran = {line.id for line in lines if line.outcome != "skipped"}
    failed = {line.id for line in lines if line.outcome == "failed"}
    passed = [row for row in ROWS if row in ran - failed]
    said = f"{len(passed)} of {len(ROWS)} rows ran here and passed"
    if failed:
        said += f"; failed: {', '.join(sorted(failed))}"
    missing = [row for row in ROWS if row not in ran]
    return f"{said}; not run: {', '.join(missing)}." if missing else f"{said}."


def markdown(lines: Sequence[Line]) -> str:
    ordered = sorted(lines, key=lambda line: (line.id, line.test))
    return f"# The fault matrix\n\n{summary(lines)}\n\n{markdown_table(HEAD, [cells(line) for line in ordered])}\n"


def write(path: Path, lines: Sequence[Line]) -> None:
    ordered = sorted(lines, key=lambda line: (line.id, line.test))
    path.write_text(json.dumps([asdict(line) for line in ordered], indent=2, default=str) + "\n")
    path.with_suffix(".md").write_text(markdown(lines))
