"""What a step of a chain works on: which rows it is for, and what they read of the steps before it. Pure.

A row that a step is not for is **skipped**: it has an answer that says so, and is no failure. Without a prompt of its own a step reads the
newest text: what the last step before it that writes has written, or the row's own.
"""

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import Meta

from db.queue.row import WorkRow
from workers.tasks import TASKS
from workers.tasks.task import SKIPPED, Task

WRITES: Final = "generate"
STEPS: Final = "steps"  # what a prompt calls what the steps before said, unless a column is called so


class Bounds(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Of a score; both may be given."""

    at_least: float | None = None
    below: float | None = None


class When(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A condition on what a step before this one said of the row; all that is given must hold."""

    step: Annotated[str | None, Meta(description="The step that is asked about; otherwise the one right before.")] = None
    label: Annotated[list[str] | str | None, Meta(description="The label, or several of which it is one.")] = None
    score: Annotated[Bounds | None, Meta(description="What the label's score is: `at_least`, `below`.")] = None
    flagged: Annotated[bool | None, Meta(description="Of a moderation: whether it flagged the row.")] = None

    def fault(self, columns: Mapping[str, str]) -> str | None:
        """The name of a field that a step with these columns does not answer; ``when`` where nothing is asked."""
        asked = [name for name in ("label", "score", "flagged") if getattr(self, name) is not None]
        return next((name for name in asked if name not in columns), None if asked else "when")

    def holds(self, told: Mapping[str, Any]) -> bool:
        labels = [self.label] if isinstance(self.label, str) else self.label
        score, bounds = told.get("score"), self.score or Bounds()
        return (
            (labels is None or told.get("label") in labels)
            and (bounds.at_least is None or (score is not None and score >= bounds.at_least))
            and (bounds.below is None or (score is not None and score < bounds.below))
            and (self.flagged is None or told.get("flagged") is self.flagged)
        )


class Before(NamedTuple):
    """A step before this one."""

    name: str
    task: Task[Any]


class Step:
    """What the job's spec says of it: ``sources``, by name and task, in their order; ``when``, each naming its step; and whether it has a
    ``prompt``."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.before = [Before(told["name"], TASKS[told["task"]]) for told in spec.get("sources", ())]
        self._at = {step.name: at for at, step in enumerate(self.before)}
        self._when = [(self._at[told["step"]], msgspec.convert(told, When)) for told in spec.get("when", ())]
        writers = [at for at, step in enumerate(self.before) if step.task.name == WRITES]
        self._text = writers[-1] if writers and not spec.get("prompt") else None

    def take(self, row: WorkRow) -> None:
        """Skips the row, or gives it the body that it is read by."""
        if not all(when.holds(self.told(row, at)) for at, when in self._when):
            row.complete(SKIPPED, 0)
        elif self._text is not None:
            if row.answers[self._text] == SKIPPED:
                row.complete(SKIPPED, 0)
            else:
                row.body, row.endpoint = msgspec.json.encode({"input": self.told(row, self._text)["text"]}), None

    def told(self, row: WorkRow, at: int) -> dict[str, object]:
        """What a step before it said of the row, by column; that it was ``skipped`` where it was."""
        return self.before[at].task.told(row.answers[at])


def told_beside(columns: Collection[str], step: Step) -> list[str]:
    """What a prompt of this step may name beside the columns."""
    return [STEPS] if step.before and STEPS not in columns else []
