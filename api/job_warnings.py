"""What the owner of a job should know though its answers look well: how many rows something holds of, and the sentence that says so.

The one door for that. Such rows are counted in their batch's share, the sums come with the job once it has ended, and a line of the table
below tells of them. Counts and fixed sentences: no content goes this way. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from api.wire import JobWarning


@dataclass(frozen=True, slots=True)
class Told:
    """``metric``: of the job's sums. ``message`` takes ``rows`` and ``answers``. ``least_share``: of the answers, below which nothing is
    said, since some such rows are usual."""

    code: str
    metric: str
    message: str
    least_share: float = 0.0


TOLD: Final = (
    Told(
        "truncated",
        "truncated_rows",
        "{rows:,} of {answers:,} texts are longer than the model reads and were cut: only their beginning counted (see on_long).",
    ),
    Told(
        "unlike_labels",
        "unlike_rows",
        "{rows:,} of {answers:,} texts are near none of the labels: each got the nearest one, maybe with a high score."
        " A score only compares the labels with each other. Name labels that say what these texts are about, or add one for the rest.",
        least_share=0.25,
    ),
    Told(
        "foreign_texts",
        "foreign_rows",
        "{rows:,} of {answers:,} texts are in another language than the model was trained on (`textmill models` names its languages):"
        " their answers may mean little. Take a model for their language.",
        least_share=0.5,
    ),
)


def late_warnings(expected_at: datetime | None, deadline: datetime, rows: int) -> list[JobWarning]:
    """Of a job whose window is likely to end before its last ``rows`` have run."""
    if expected_at is None or expected_at <= deadline or not rows:
        return []
    told = "It would be done after its completion window ends: rows that have not run by then fail, with `batch_expired`."
    return [JobWarning("late", told, rows)]


def warnings_of(metrics: Mapping[str, float] | None, answers: int) -> list[JobWarning]:
    """``metrics``: of a job that has ended. ``answers``: its rows that have one; of rows that ran again the sums hold both runs."""
    warned = []
    for told in TOLD:
        rows = min(answers, round((metrics or {}).get(told.metric, 0.0)))
        if rows and rows >= told.least_share * answers:
            warned.append(JobWarning(told.code, told.message.format(rows=rows, answers=answers), rows))
    return warned
