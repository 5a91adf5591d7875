"""What came out of a job, counted while it is written, and the sentences that say so."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from api.cli.work.outcomes import Outcome

if TYPE_CHECKING:
    from api.wire import Batch


TOLD_BY_ROWS: Final = frozenset({"truncated"})  # a job's warnings that are said here, of the rows that were written


@dataclass(slots=True)
class Tally:
    """``truncated``: texts of which only the beginning was read; ``cut_short``: answers that ended at their longest;
    ``unknown``: texts without one token that the model knows."""

    rows: int = 0
    failed: int = 0
    truncated: int = 0
    cut_short: int = 0
    unknown: int = 0

    def add(self, outcome: Outcome) -> None:
        self.rows += 1
        self.failed += outcome.code is not None
        self.truncated += outcome.truncated
        self.cut_short += outcome.cut_short
        self.unknown += outcome.all_unknown

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


def truncation(truncated: int, texts: int) -> str:
    return (
        f"{truncated:,} of {texts:,} texts are longer than the model reads and were cut: only their beginning counted. "
        "To read them whole: --on-long chunk."
    )
