"""What came out of a job, counted while it is written, and the sentences that say so."""

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final

from api.cli.work.following import fault_text
from api.cli.work.outcomes import read_outcomes
from api.tables.outcome import Outcome

if TYPE_CHECKING:
    from api.client import Client
    from api.wire import Batch


MOST_REASONS: Final = 3
MOST_READ: Final = 1_000  # failures, for a look at a job
TOLD_BY_ROWS: Final = frozenset({"truncated"})  # a job's warnings that are said here, of the rows that were written


@dataclass(slots=True)
class Tally:
    """``reasons``: failed rows by code, and ``firsts`` the first of each; ``truncated``: texts of which only the beginning was read;
    ``cut_short``: answers that ended at their longest; ``unknown``: texts without one token that the model knows."""

    rows: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    firsts: dict[str, Outcome] = field(default_factory=dict)
    truncated: int = 0
    cut_short: int = 0
    unknown: int = 0

    def add(self, outcome: Outcome) -> None:
        self.rows += 1
        if outcome.code is not None:
            self.reasons[outcome.code] += 1
            self.firsts.setdefault(outcome.code, outcome)
        self.truncated += outcome.truncated
        self.cut_short += outcome.cut_short
        self.unknown += outcome.all_unknown

    @property
    def failed(self) -> int:
        return self.reasons.total()

    def missing_of(self, expected: int | None) -> int:
        """How many rows fewer than ``expected`` were counted; 0 where nobody knows."""
        return 0 if expected is None else max(0, expected - self.rows)

    def told(self, batch: "Batch", written_to: str | None, *, errors_only: bool) -> list[str]:
        """``written_to``: None where the rows themselves went to stdout, which shows them."""
        lines = []
        if written_to is not None:
            failed = f", {self.failed:,} of them failed," if self.failed and not errors_only else ""
            rows = "1 row" if self.rows == 1 else f"{self.rows:,} rows"
            lines.append(f"{rows}{failed} written to {written_to} (job {batch.id}).")
        if batch.status != "failed":  # of that they are told already
            lines += self._commonest(batch)
        if not batch.ended and not errors_only:
            lines.append(
                "The job runs: these are its rows before the first that is not done yet; "
                f"{batch.counts.done:,} of {batch.counts.total:,} are done."
            )
        if self.truncated:
            lines.append(truncation(self.truncated, self.rows - self.failed))
        if self.unknown:
            lines.append(
                f"{self.unknown:,} of {self.rows - self.failed:,} texts hold nothing that the model knows (`all_unknown`): "
                "their answers say nothing."
            )
        if self.cut_short:
            lines.append(
                f"{self.cut_short:,} of {self.rows - self.failed:,} answers stop in the middle: "
                "they are as long as --max-tokens lets them be."
            )
        if batch.ended and batch.counts.completed and batch.output_file is None and not errors_only:
            lines.append(f"The {batch.counts.completed:,} answers of this job were deleted.")
        if batch.ended and batch.counts.failed and batch.error_file is None:
            lines.append(f"The {batch.counts.failed:,} failures of this job were deleted.")
        return lines

    def _commonest(self, batch: "Batch") -> list[str]:
        """Why rows failed, the reason of most first."""
        from api.wire import BatchFault

        told = []
        for code, rows in self.reasons.most_common(MOST_REASONS):
            first = self.firsts[code]
            told.append(f"  {fault_text(BatchFault(code, first.line or None, first.message, rows=rows))}")
        if (more := len(self.reasons) - MOST_REASONS) > 0:
            told.append(f"  … and {more:,} other reasons: textmill results {batch.id} --errors -o -")
        return told


def reasons_of(client: "Client", batch: "Batch") -> list[str]:
    """Why rows of a job failed that did not fail whole (then it tells itself), code by code; of very many, those of the first failures.
    Empty for a key that may not read."""
    from api.client import ApiError
    from api.wire import BatchFault

    if batch.status == "failed" or batch.error_file is None or not (batch.ended or batch.counts.failed):
        return []
    tally, failures = Tally(), read_outcomes(client, batch, errors_only=True)
    try:
        for outcome in islice(failures, MOST_READ):
            tally.add(outcome)
    except ApiError as refusal:
        if refusal.status in (403, 404, 409):
            return []
        raise
    told = []
    for code, rows in tally.reasons.most_common():
        first = tally.firsts[code]
        told.append(f"{code}: {fault_text(BatchFault(code, first.line or None, first.message, rows=rows))}")
    if tally.rows == MOST_READ:
        told.append(f"… of the first {MOST_READ:,} failures; all of them: textmill results {batch.id} --errors -o -")
    return told


def truncation(truncated: int, texts: int) -> str:
    return (
        f"{truncated:,} of {texts:,} texts are longer than the model reads and were cut: only their beginning counted. "
        "To read them whole: --on-long chunk."
    )
