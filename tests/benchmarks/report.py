"""What `make bench` leaves behind: the tables on the terminal, a JSON report with every run, and a markdown report to commit."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks import shapes
from tests.benchmarks.goals import GOALS, Figure, goal_rows, markdown_table, text_table, verdict

GOALS_HEAD = ("what", "goal", "figure", "")


@dataclass(slots=True)
class Findings:
    """Filled as the suite goes: figures by goal, rows of the second table, further lines, and all that was measured, for the JSON."""

    figures: dict[str, Figure] = field(default_factory=dict)
    shape_rows: list[tuple[str, ...]] = field(default_factory=list)
    lines: list[tuple[str, str]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def on_the_terminal(found: Findings) -> str:
    rows = goal_rows(GOALS, found.figures)
    notes = [f"{row[0]}: {row[4]}" for row in rows if row[4]]
    parts = [text_table(GOALS_HEAD, [row[:4] for row in rows]), *notes]
    if found.shape_rows:
        parts += ["", text_table(shapes.HEAD, found.shape_rows)]
    if found.lines:
        parts += ["", text_table(("also", ""), found.lines)]
    parts += [f"{name} was not measured: {reason}" for name, reason in found.failures.items()]
    return "\n".join(parts)


def as_markdown(found: Findings, machine: Mapping[str, object], seconds: float, settings: Mapping[str, object]) -> str:
    versions: Any = machine["versions"]
    flags: Any = machine["cpu_flags"]
    parts = [
        "# Benchmark report",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, kernel {machine['kernel']}, Python {machine['python']}; "
        f"load average at the start {', '.join(f'{one:.1f}' for one in _floats(machine['load_average']))}; "
        f"revision {str(machine['revision'])[:12]}{' with changes' if machine['changed_files'] else ''}; {seconds:.0f} s in all.",
        f"CPU flags: {', '.join(flags)}.",
        f"Versions: {', '.join(f'{name} {version}' for name, version in versions.items())}.",
        f"Settings: {', '.join(f'{name} {value}' for name, value in settings.items())}.",
        "## Goals",
        markdown_table(("what", "goal", "figure", "verdict", "how"), goal_rows(GOALS, found.figures)),
    ]
    if found.shape_rows:
        parts += ["## Other shapes of work, end to end", markdown_table(shapes.HEAD, found.shape_rows)]
    if found.lines:
        parts += ["## Also", markdown_table(("what", "figure"), found.lines)]
    parts += [f"{name} was not measured: {reason}." for name, reason in found.failures.items()]
    return "\n\n".join(parts) + "\n"


def as_json(found: Findings, machine: Mapping[str, object], seconds: float, settings: Mapping[str, object]) -> str:
    goals = [
        {
            "key": goal.key,
            "what": goal.what,
            "goal": goal.asked,
            "value": None if (figure := found.figures.get(goal.key)) is None else figure.value,
            "figure": None if figure is None else figure.shown,
            "note": None if figure is None else figure.note,
            "verdict": verdict(goal, figure),
        }
        for goal in GOALS
    ]
    whole = {
        "benchmark": "textmill",
        "machine": machine,
        "seconds": seconds,
        "settings": settings,
        "goals": goals,
        "shapes": [dict(zip(shapes.HEAD, row, strict=True)) for row in found.shape_rows],
        "also": dict(found.lines),
        "not_measured": found.failures,
        "details": found.details,
    }
    return json.dumps(whole, indent=2) + "\n"


def write(path: Path, found: Findings, machine: Mapping[str, object], seconds: float, settings: Mapping[str, object]) -> Path:
    """The JSON report to ``path``, the markdown beside it. Returns the latter's path."""
    path.write_text(as_json(found, machine, seconds, settings), encoding="utf-8")
    markdown = path.with_suffix(".md")
    markdown.write_text(as_markdown(found, machine, seconds, settings), encoding="utf-8")
    return markdown


def _floats(values: Any) -> Sequence[float]:
    return [float(one) for one in values]
