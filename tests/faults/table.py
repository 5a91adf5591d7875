"""The matrix as a table: a line a test, with its counters. Pure but for `write`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tests.benchmarks.goals import markdown_table, text_table
from tests.faults.counters import ALWAYS_ZERO, Counters

ROWS: Final = tuple(f"F{number:02d}" for number in range(1, 55))
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


def passed_rows(lines: Sequence[Line]) -> list[str]:
    """A row passes when all of its tests that ran did, and one ran."""
    return [row for row in ROWS if row in {line.id for line in lines if line.outcome == "passed"} - _failed(lines)]


def _failed(lines: Sequence[Line]) -> set[str]:
    return {line.id for line in lines if line.outcome == "failed"}


def summary(lines: Sequence[Line]) -> str:
    """How many of the matrix's rows ran, of which a test was skipped, and which did not run."""
    ran = {line.id for line in lines if line.outcome != "skipped"}
    failed = _failed(lines)
    passed = passed_rows(lines)
    said = f"{len(passed)} of {len(ROWS)} rows ran here and passed"
    if failed:
        said += f"; failed: {', '.join(sorted(failed))}"
    if in_part := [row for row in ROWS if row in ran & {line.id for line in lines if line.outcome == "skipped"}]:
        said += f"; in part, the table says why: {', '.join(in_part)}"
    missing = [row for row in ROWS if row not in ran]
    return f"{said}; not run: {', '.join(missing)}." if missing else f"{said}."


def markdown(lines: Sequence[Line]) -> str:
    return f"# The fault matrix\n\n{summary(lines)}\n\n{markdown_table(HEAD, [cells(line) for line in _ordered(lines)])}\n"


def text(lines: Sequence[Line]) -> str:
    """For a terminal."""
    return f"{text_table(HEAD, [cells(line) for line in _ordered(lines)])}\n\n{summary(lines)}"


def _ordered(lines: Sequence[Line]) -> list[Line]:
    return sorted(lines, key=lambda line: (line.id, line.test))


def write(path: Path, lines: Sequence[Line]) -> None:
    path.write_text(json.dumps([asdict(line) for line in _ordered(lines)], indent=2, default=str) + "\n")
    path.with_suffix(".md").write_text(markdown(lines))


def read(path: Path) -> list[Line]:
    """What `write` wrote."""
    return [
        Line(**{**one, "counted": None if one["counted"] is None else Counters(**one["counted"])}) for one in json.loads(path.read_text())
    ]
