"""What became of one row, step by step, as `textmill jobs show JOB --row` tells it."""

from typing import TYPE_CHECKING

from api.cli.terminal.exits import ExitCode
from api.cli.terminal.terminal import answer_json, shown, table, when
from api.cli.work.outcomes import task_name

if TYPE_CHECKING:
    from api.wire import RowLine, RowStepLine

MOST_CHARS = 400  # of an answer


def show_row(row: "RowLine", *, as_json: bool) -> ExitCode:
    if as_json:
        answer_json(row)
        return ExitCode.OK
    rows: list[tuple[str, object]] = [("row", row.row)]
    rows += [("line", row.line)] if row.line is not None else []
    rows += [("id", shown(row.custom_id))] if row.custom_id is not None else []
    for number, step in enumerate(row.steps, start=1):
        rows.append((f"step {number}" if len(row.steps) > 1 else "task", _headline(step)))
        rows += [(f"  {name}", value) for name, value in _told(step)]
    table(("FIELD", "VALUE"), rows)
    return ExitCode.OK


def _headline(step: "RowStepLine") -> str:
    name = "" if step.name is None else f"{shown(step.name)}, "
    return f"{name}{task_name(step.endpoint)}: {step.status}"


def _told(step: "RowStepLine") -> list[tuple[str, object]]:
    answer = [(name, _short(value)) for name, value in (step.answer or {}).items() if not isinstance(value, dict | list)]
    failure = [("error", f"{step.code}: {shown(step.message or '')}")] if step.code is not None else []
    model = [("model", shown(step.model))] if step.model else []
    tries = f"{step.claims}" + (f", {step.crashes} crashed" if step.crashes else "") + (f", {step.errors} failed" if step.errors else "")
    worker = [("tries", tries), ("worker", shown(step.worker))] if step.worker else []
    return [*answer, *failure, *model, *worker, *([("stored", when(step.at))] if step.at is not None else [])]


def _short(value: object) -> str:
    text = shown(str(value))
    return text if len(text) <= MOST_CHARS else f"{text[:MOST_CHARS]}…"
