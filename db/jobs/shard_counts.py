"""How many shards of a running job are in each state, and what they have counted: exact, and yet not all of them are read at each look.

A shard that is done changes no more, unless its job is run again. So a process keeps what the done ones came to when it last looked, and
which rows they cover, and reads the others only: the next look at a job of 300,000 shards takes milliseconds, not a tenth of a second.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, text

from db.lifecycle import ShardState
from db.recent import Recent

KEPT_JOBS: Final = 1_000
KEPT_STRETCHES: Final = 10_000  # of done rows, between those that are not: of a job that has more nothing is kept
NO_END: Final = 2**31 - 1

_COUNT: Final = text(
    """
    SELECT gap.job_id, s.state, count(*) AS shards, sum(s.completed_count) AS completed, sum(s.failed_count) AS failed,
           sum(s.input_tokens) AS input_tokens, sum(s.output_tokens) AS output_tokens,
           range_agg(int4range(s.first_idx, s.end_idx)) FILTER (WHERE s.state = 'done') AS done_rows
    FROM unnest(CAST(:jobs AS uuid[]), CAST(:firsts AS integer[]), CAST(:ends AS integer[])) AS gap (job_id, first_idx, end_idx)
    JOIN shards s ON s.tenant_id = :tenant AND s.job_id = gap.job_id AND s.first_idx >= gap.first_idx AND s.first_idx < gap.end_idx
    GROUP BY gap.job_id, s.state
    """
)


@dataclass(frozen=True, slots=True)
class Counts:
    """Of shards in one state, or of all."""

    shards: int = 0
    completed: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.shards + other.shards,
            self.completed + other.completed,
            self.failed + other.failed,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
        )


Stretch = tuple[int, int]  # rows from the first to before the end


@dataclass(frozen=True, slots=True)
class _Done:
    """What the done shards of a job came to that were seen, and which rows they cover, in order and apart from each other."""

    counts: Counts = field(default_factory=Counts)
    stretches: tuple[Stretch, ...] = ()

    def gaps(self) -> Iterator[Stretch]:
        ends = (0, *(end for _, end in self.stretches))
        firsts = (*(first for first, _ in self.stretches), NO_END)
        return ((end, first) for end, first in zip(ends, firsts, strict=True) if end < first)

    def with_more(self, counts: Counts, stretches: Iterable[Stretch]) -> "_Done":
        return _Done(self.counts + counts, joined(self.stretches, stretches))


# By job and run: their ids are never used again. Whoever is last has its say: each is right, and what it lacks is read again.
_KEPT: Final = Recent[tuple[UUID, int], _Done](KEPT_JOBS)


def count_shards(conn: Connection, tenant_id: UUID, runs: Mapping[UUID, int]) -> dict[UUID, dict[str, Counts]]:
    """By job and state; a job without shards has none. ``runs``: how often each job has been run again, as read in this transaction."""
    known = {job_id: _KEPT.get((job_id, run)) or _Done() for job_id, run in runs.items()}
    gaps = [(job_id, *gap) for job_id, done in known.items() for gap in done.gaps()]
    columns = {"jobs": [gap[0] for gap in gaps], "firsts": [gap[1] for gap in gaps], "ends": [gap[2] for gap in gaps]}
    found: dict[UUID, dict[str, Counts]] = {job_id: {} for job_id in runs}
    for row in conn.execute(_COUNT, {"tenant": tenant_id, **columns}):
        read = Counts(row.shards, int(row.completed), int(row.failed), int(row.input_tokens), int(row.output_tokens))
        found[row.job_id][row.state] = read
        if row.state == ShardState.DONE:
            known[row.job_id] = known[row.job_id].with_more(read, [(each.lower, each.upper) for each in row.done_rows])
            if len(known[row.job_id].stretches) <= KEPT_STRETCHES:
                _KEPT.put_after(conn, (row.job_id, runs[row.job_id]), known[row.job_id])
    for job_id, done in known.items():
        if done.counts.shards:
            found[job_id][ShardState.DONE] = done.counts
    return found


def joined(known: Sequence[Stretch], more: Iterable[Stretch]) -> tuple[Stretch, ...]:
    """Both in order; what touches is one. No two of them overlap."""
    whole: list[Stretch] = []
    for first, end in sorted((*known, *more)):
        if whole and whole[-1][1] == first:
            whole[-1] = (whole[-1][0], end)
        else:
            whole.append((first, end))
    return tuple(whole)
