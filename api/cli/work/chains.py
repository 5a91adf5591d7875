"""A chain from a file of steps: started, followed step by step, and its table written."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from api.cli.terminal.connection import connect
from api.cli.terminal.exits import CommandError, ExitCode
from api.cli.terminal.progress import show_progress
from api.cli.terminal.terminal import answer_json, say, shown
from api.cli.work.following import ended_well, follow, let_go, say_warnings, say_why
from api.cli.work.outcomes import task_of
from api.cli.work.outputs import Shown, Target, opened
from api.cli.work.running import Work, find_target, start, tell_detached
from api.cli.work.sources import Source
from api.cli.work.yaml_files import read_yaml
from workers.tasks import TASKS

if TYPE_CHECKING:
    from api.client import Client
    from api.wire import Batch

SUFFIXES: Final = (".yaml", ".yml", ".json")
_FIELDS: Final = frozenset(
    {"name", "endpoint", "when", "prompt", "redact", "checks", "tries", "defaults"}
)  # of a step; others are defaults


def is_steps_file(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def read_steps(path: Path) -> list[dict[str, Any]]:
    """As `POST /v1/batches` takes them, of a YAML or JSON file: a list of steps, or one under ``steps``. A step names its ``task``; a field
    that is no step's own is one of its rows' bodies. Raises CommandError."""
    read = read_yaml(path)
    steps = read.get("steps") if isinstance(read, dict) else read
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise CommandError(f"{shown(path)} holds no list of steps: each begins with `- name: NAME`.")
    return [_step(number, step) for number, step in enumerate(steps, start=1)]


def task_of_step(step: dict[str, Any]) -> str:
    """Its name; nothing where there is no such endpoint."""
    return next((name for name, each in TASKS.items() if step["endpoint"] in each.endpoints), "")


def _step(number: int, step: dict[str, Any]) -> dict[str, Any]:
    fields = {str(name): value for name, value in step.items()}
    task = fields.pop("task", None)
    if "endpoint" not in fields:
        known = [name for name, each in TASKS.items() if each.in_batches]
        if task not in known:
            raise CommandError(f"Step {number} names no task: `task: ` and one of {', '.join(known)}.")
        fields["endpoint"] = TASKS[task].endpoints[0]
    own = {name: value for name, value in fields.items() if name in _FIELDS and name != "defaults"}
    defaults = {**(fields.get("defaults") or {}), **{name: value for name, value in fields.items() if name not in _FIELDS}}
    return {**own, **({"defaults": defaults} if defaults else {})}


def run(source: Source, work: Work) -> ExitCode:
    """Upload → chain → its table. The exit code says how it ended."""
    if work.dry_run:
        raise CommandError("--dry-run is of one task, not of a chain: try its steps one by one.")
    target = find_target(work, task_of(work.endpoint), source)
    with connect() as client:
        batch = start(client, source, work)
        if target is None:
            return tell_detached(batch, work)
        try:
            with show_progress(work.title, quiet=work.quiet) as progress:
                batch = follow(client, batch, progress)
            return deliver(client, batch, target, work.shown_as, as_json=work.as_json, quiet=work.quiet)
        except KeyboardInterrupt:
            return let_go(client, batch, work.out)


def deliver(
    client: "Client", batch: "Batch", target: Target, shown_as: Shown, *, as_json: bool, quiet: bool, unmask: bool = False
) -> ExitCode:
    """Writes the table of all steps, and says how the chain ended."""
    say_why(batch)
    if batch.counts.done or not batch.ended:
        with opened(target.path) as file:
            for piece in client.table(batch.id, target.kind, columns=shown_as.columns, inputs=shown_as.inputs, unmask=unmask):
                file.write(piece)
    if as_json:
        answer_json({"job": batch.id, "status": batch.status, "steps": batch.textmill.steps, "output": str(target.path or "") or None})
    elif not quiet:
        say(*_told(batch.textmill.steps))
        say_warnings(batch)
    return ended_well(batch) if batch.ended else ExitCode.OK


def _told(steps: Sequence[Any]) -> list[str]:
    lines = []
    for number, step in enumerate(steps, start=1):
        parts = [f"{step.counts.completed - (step.skipped or 0):,} done"]
        parts += [f"{step.skipped:,} skipped"] if step.skipped else []
        parts += [f"{step.counts.failed:,} failed"] if step.counts.failed else []
        lines.append(f"Step {number}, {shown(step.name or 'unnamed')}: {step.status}, {', '.join(parts)}.")
    return lines
