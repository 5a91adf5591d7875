"""What a fault left behind, counted: from the store, as its readers see it, and from the log of the fake model's calls.

The first five must be 0 whatever broke. ``chain`` stays None until the audit log is sealed. Made for a million rows as for ten: results are
read as a stream, of a row two numbers are kept, and the log of the calls is read line by line.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgspec
import numpy as np
from numpy.typing import NDArray
from sqlalchemy import text

from db.actors import Actor
from db.connect import Store
from db.jobs import jobs
from db.jobs.results import ResultLine, iter_results
from db.lifecycle import JobState
from tests.looking import on_record
from tests.workers.submitting import LABELS
from workers.engines.fake import digest_of, read_calls, vector_of, vectors_of
from workers.models.zero_shot import prototypes, written

ALWAYS_ZERO: Final = ("lost", "doubled", "wrong", "unaudited", "miscounted")
NEVER_RAN: Final = {"batch_cancelled", "batch_expired"}
AT_ONCE: Final = 2048  # results that are looked at together
ROUNDING: Final = 1e-5  # the worker multiplies in other batches than we do: of two labels that are so close, either is f(text)
NEVER: Final = float("inf")

Times = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Load:
    """A job and what is known of it: ``failures`` are the rows that must fail, with codes. ``answers``: each row's label, where a real
    model gives it; then there is no log of the calls either. ``is_right(text, answer)`` judges what is no label."""

    job_id: UUID
    actor: Actor
    texts: Sequence[str]
    failures: Mapping[int, str] = field(default_factory=dict)
    answers: Sequence[str] | None = None
    is_right: Callable[[str, Any], bool] | None = None


@dataclass(frozen=True, slots=True)
class Counters:
    """``lost``: rows without an outcome, or of a job that did not end. ``doubled``: rows with more than one. ``wrong``: another answer than
    f(text), or another failure than expected. ``unaudited``: calls of the model on a row that no committed event covers. ``miscounted``:
    how far a job's counts and tokens are from its results'. ``recomputed``: calls of the model beyond one a row."""

    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    unaudited: int = 0
    miscounted: int = 0
    chain: int | None = None
    recomputed: int = 0

    @property
    def clean(self) -> bool:
        return not any(getattr(self, name) for name in ALWAYS_ZERO)

    def as_dict(self) -> dict[str, int | None]:
        return asdict(self)


def count(store: Store, loads: Sequence[Load], calls: Path) -> Counters:
    """``store``: role API. ``calls``: TEXTMILL_FAKE_LOG of every worker that had a part in it. Texts must differ between rows and jobs."""
    called = Calls()
    found = [check(store, load) for load in loads]
    unaudited = 0
    for load, outcome in zip(loads, found, strict=True):
        unaudited += called.expect(store, load, outcome)
    recomputed, before_a_read = called.tally(calls)
    return Counters(
        lost=sum(one.lost for one in found),
        doubled=sum(one.doubled for one in found),
        wrong=sum(one.wrong for one in found),
        unaudited=unaudited + before_a_read,
        miscounted=sum(one.miscounted for one in found),
        recomputed=recomputed,
    )


# What the store says.


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one job. ``answered``: which of its rows have an answer."""

    state: str
    lost: int
    doubled: int
    wrong: int
    miscounted: int
    answered: NDArray[np.bool_]


def check(store: Store, load: Load) -> Outcome:
    """Reads all of a job's results once."""
    job = jobs.get_job(store, load.actor, load.job_id)
    early = job.state in {JobState.CANCELLED, JobState.EXPIRED}
    seen = np.zeros(len(load.texts), np.int64)
    answered = np.zeros(len(load.texts), np.bool_)
    wrong = completed = failed = 0
    for lines in _pages(iter_results(store, load.actor, load.job_id, which="output")):
        at = np.array([line.idx for line in lines])
        np.add.at(seen, at, 1)
        answered[at] = True
        wrong += _wrong_answers(load, lines)
        completed += len(lines)
    for lines in _pages(iter_results(store, load.actor, load.job_id, which="errors")):
        np.add.at(seen, [line.idx for line in lines], 1)
        never_ran = [early and line.code in NEVER_RAN for line in lines]
        wrong += sum(load.failures.get(line.idx) != line.code and not left for line, left in zip(lines, never_ran, strict=True))
        failed += sum(line.code not in NEVER_RAN for line in lines)
    with on_record(store, load.actor.tenant_id) as conn:
        sums = conn.execute(
            text(
                "SELECT coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0) FROM results"
                " WHERE tenant_id = :tenant AND job_id = :job"
            ),
            {"tenant": load.actor.tenant_id, "job": load.job_id},
        ).one()
    told = (job.completed_count, job.failed_count, job.input_tokens, job.output_tokens)
    return Outcome(
        state=job.state,
        lost=int((seen == 0).sum()) if job.ended else len(load.texts),
        doubled=int(np.maximum(seen - 1, 0).sum()),
        wrong=wrong,
        miscounted=sum(abs(said - real) for said, real in zip(told, (completed, failed, *sums), strict=True)),
        answered=answered,
    )


def first_reads(store: Store, load: Load) -> Times:
    """When each row was first read, by the committed record; ``NEVER`` where it does not say so.

    An event's time is its transaction's start, and it commits before any row is opened: so it comes before the call."""
    first = np.full(len(load.texts), NEVER)
    with store.transaction(tenant=load.actor.tenant_id) as conn:
        events = conn.execute(_READS, {"tenant": load.actor.tenant_id, "job": load.job_id}).all()
    for event in events:
        rows = first[event.first_idx : event.end_idx]
        np.minimum(rows, event.at.timestamp(), out=rows)
    return first


# No event of a job is older than the job, and the index is by time: otherwise all of the tenant's events would be looked at for each job.
_READS: Final = text(
    """
    SELECT at, first_idx, end_idx FROM audit_events
    WHERE tenant_id = :tenant AND job_id = :job AND action = 'rows.read'
      AND at >= (SELECT created_at FROM jobs WHERE tenant_id = :tenant AND job_id = :job)
    """
)


class _Answer(msgspec.Struct):
    label: str | None = None


_PAYLOADS: Final = msgspec.json.Decoder(_Answer)
_PROTOTYPES: Final = prototypes(np.stack([vector_of(one) for one in written(LABELS, ["{}"])]), 1)


def _pages(lines: Iterator[ResultLine]) -> Iterator[list[ResultLine]]:
    while page := list(islice(lines, AT_ONCE)):
        yield page


def _wrong_answers(load: Load, lines: Sequence[ResultLine]) -> int:
    if load.is_right is not None:
        right = [load.is_right(load.texts[line.idx], json.loads(line.payload or b"null")) for line in lines]
        return sum(not good or line.idx in load.failures for line, good in zip(lines, right, strict=True))
    given = [_PAYLOADS.decode(line.payload or b"{}").label for line in lines]
    if load.answers is None:
        right = _right_answers([load.texts[line.idx] for line in lines], given)
    else:
        right = [load.answers[line.idx] == label for line, label in zip(lines, given, strict=True)]
    return sum(not good or line.idx in load.failures for line, good in zip(lines, right, strict=True))


def _right_answers(texts: Sequence[str], given: Sequence[str | None]) -> list[bool]:
    """Whether each label is the fake model's for its text."""
    scores = vectors_of([one.encode() for one in texts]) @ _PROTOTYPES.T
    best = scores.max(axis=1) - ROUNDING
    places = {label: place for place, label in enumerate(LABELS)}
    return [label in places and bool(own[places[label]] >= least) for label, own, least in zip(given, scores, best, strict=True)]


# What the model was asked.


class Calls:
    """The rows the model may be called on, as two numbers each: the text's digest, and when the row was first read by the record."""

    def __init__(self) -> None:
        self._digests: list[NDArray[np.uint64]] = []
        self._first_reads: list[Times] = []

    def expect(self, store: Store, load: Load, outcome: Outcome) -> int:
        """Adds the rows of a job. Returns how many of them were answered though no event says that they were read, where only that can be
        known, because a real model keeps no log of its calls."""
        reads = first_reads(store, load)
        if load.answers is not None:
            return int((outcome.answered & (reads == NEVER)).sum())
        self.add(load.texts, reads)
        return 0

    def add(self, texts: Sequence[str], reads: Times) -> None:
        self._digests.append(_numbers([digest_of(one) for one in texts]))
        self._first_reads.append(reads)

    def tally(self, log: Path) -> tuple[int, int]:
        """(calls beyond one a row, calls on a row before the record said that it is read). Labels and templates are no rows."""
        if not self._digests:
            return 0, 0
        digests, reads = np.concatenate(self._digests), np.concatenate(self._first_reads)
        order = digests.argsort()
        digests, reads = digests[order], reads[order]
        times = np.zeros(len(digests), np.int64)
        unaudited = 0
        for call in read_calls(log):
            asked = _numbers(call.digests)
            places = np.searchsorted(digests, asked).clip(max=len(digests) - 1)
            known = places[digests[places] == asked]
            np.add.at(times, known, 1)
            unaudited += int((reads[known] > call.at).sum())
        return int(times.sum() - np.count_nonzero(times)), unaudited


def _numbers(digests: Sequence[str]) -> NDArray[np.uint64]:
    return np.frombuffer(bytes.fromhex("".join(digests)), ">u8").astype(np.uint64)
