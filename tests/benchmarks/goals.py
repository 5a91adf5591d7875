"""The goals table: what was promised, what came out, pass or miss. Pure; the benchmarks bring the figures."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

PEERS: Final = "see make bench-peers"
NOT_MEASURED: Final = "not measured"
TOO_FEW: Final = "inconclusive"


@dataclass(frozen=True, slots=True)
class Goal:
    """A line of the table. A figure passes when it is ``at_least`` or ``at_most`` so much; a line with neither is of the peers' run."""

    key: str
    what: str
    asked: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def is_of_peers(self) -> bool:
        return self.at_least is None and self.at_most is None

    def passes(self, value: float) -> bool:
        """A figure that is no number passes nothing."""
        least = float("-inf") if self.at_least is None else self.at_least
        most = float("inf") if self.at_most is None else self.at_most
        return least <= value <= most


@dataclass(frozen=True, slots=True)
class Figure:
    """``value`` is what the goal is compared with; ``shown`` is how a person reads it, with its unit; ``note``: how it came about.

    ``enough`` is False where too few runs, documents or texts stand behind it: then it is shown, and neither passes nor misses."""

    value: float
    shown: str
    note: str = ""
    enough: bool = True


GOALS: Final = (
    Goal("end_to_end_c3", "end to end ÷ bare loop, C3", "≥ 0.95", at_least=0.95),
    Goal("end_to_end_bbc", "end to end ÷ bare loop, BBC", "≥ 0.95", at_least=0.95),
    Goal("end_to_end_c1", "end to end ÷ bare loop, C1", "≥ 0.85", at_least=0.85),
    Goal("pipeline", "C3 vs transformers pipeline bs 32, vs celery-batches + pipeline", "≥ 10×; AVX2 only ≥ 5×"),
    Goal("engines", "C3 vs the best other engine without queue, crypto, database", "≥ 1.2×"),
    Goal("heavy_tail", "C4 vs the best padded int8 peer", "≥ 2×"),
    Goal("tiny_jobs", "C5, 2,000 jobs of 4 documents ÷ C3's rate", "≥ 0.8", at_least=0.8),
    Goal("null_model", "null model vs plain Celery, one task a document", "≥ 20×", at_least=20),
    Goal("interactive_p99", "interactive p99 beside a bulk job ÷ batch time", "≤ 2", at_most=2),
    Goal("bulk_loss", "the bulk job's loss to it", "≤ 10 %", at_most=0.10),
    Goal("sealing_cost", "sealing + audit, share of C3's cost", "≤ 2 %", at_most=0.02),
    Goal("accepted_seconds", "50,000-line file accepted", "≤ 3 s", at_most=3),
    Goal("accepted_cpu", "CPU of the API for it", "≤ 1 s", at_most=1),
    Goal("agreement", "labels as fp32's, BBC", "≥ 99.5 %", at_least=0.995),
    Goal("many_rows_cost", "cost of a row among many ÷ among 10,000, null model", "≤ 1.1×", at_most=1.1),
    Goal("decoding_fp32", "our slots ÷ transformers.generate bs 32, fp32", "≥ 6×", at_least=6),
    Goal("decoding_bf16", "our slots ÷ transformers.generate bs 32, bf16", "≥ 2.5×", at_least=2.5),
    Goal("decoding_continuous", "our slots ÷ transformers' continuous batching", "≥ 2×", at_least=2),
    Goal("shared_prefix", "512-token shared prefix ÷ the same without sharing", "≥ 5×", at_least=5),
    Goal("labels", "labels scored ÷ 4 tokens said, documents/s", "≥ 1.5×", at_least=1.5),
    Goal("labels_shared", "the same behind a 512-token beginning that all documents share", "≥ 4×", at_least=4.0),
    Goal("writing_whole", "prompts end to end ÷ our decoder bare, tokens/s", "≥ 0.95", at_least=0.95),
    Goal("structured", "answers under a schema ÷ free ones, tokens/s", "≥ 0.9", at_least=0.9),
    Goal("structured_valid", "of the answers under five schemas, valid ones", "100 %", at_least=1.0),
    Goal("repeated", "same row alone and in company, greedy and drawn: equal texts", "≥ 99 %", at_least=0.99),
    Goal("tables_upload", "upload of all columns ÷ of the text alone, rows/s", "≥ 0.7", at_least=0.7),
    Goal("tables_rate", "results joined to the table, as Parquet, null model", "≥ 20,000 rows/s", at_least=20_000),
    Goal("tables_memory", "peak memory of the API meanwhile", "≤ 300 MB", at_most=300),
    Goal("written_rules", "rules ÷ null model over the same table, rows/s", "≥ 0.5", at_least=0.5),
    Goal("written_template", "a template ÷ null model over the same table, rows/s", "≥ 0.5", at_least=0.5),
    Goal("many_rows_memory", "memory flat from 10,000 rows to many", "≤ 30 MB", at_most=30),
)


def verdict(goal: Goal, figure: Figure | None) -> str:
    if goal.is_of_peers:
        return PEERS
    if figure is None or math.isnan(figure.value):
        return NOT_MEASURED
    if not figure.enough:
        return TOO_FEW
    return "pass" if goal.passes(figure.value) else "MISS"


def missed(goals: Sequence[Goal], figures: Mapping[str, Figure]) -> list[Goal]:
    """Whatever did not pass: what was not measured, or not often enough, included."""
    return [goal for goal in goals if not goal.is_of_peers and verdict(goal, figures.get(goal.key)) != "pass"]


def goal_rows(goals: Sequence[Goal], figures: Mapping[str, Figure]) -> list[tuple[str, ...]]:
    """(what, goal, figure, verdict, note) a line."""
    rows: list[tuple[str, ...]] = []
    for goal in goals:
        figure = figures.get(goal.key)
        shown, note = ("–", "") if figure is None else (figure.shown, figure.note)
        rows.append((goal.what, goal.asked, shown, verdict(goal, figure), note))
    return rows


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    drawn = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([drawn[0], "  ".join("─" * width for width in widths), *drawn[1:]])


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    drawn = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in (head, *rows)]
    return "\n".join([drawn[0], "|" + "---|" * len(head), *drawn[1:]])
