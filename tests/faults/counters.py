"""What a fault left behind, counted: from the store, as its readers see it, and from the log of the fake model's calls.

The first five must be 0 whatever broke. ``chain`` stays None until the audit log is sealed.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final
from uuid import UUID

from sqlalchemy import text

from db import jobs
from db.actors import Actor
from db.audit.events import list_events
from db.connect import Store
from db.lifecycle import JobState
from db.results import ResultLine, iter_results
from tests.workers.submitting import LABELS
from workers.engines.fake import digest_of, expected_label, read_calls

ALWAYS_ZERO: Final = ("lost", "doubled", "wrong", "unaudited", "miscounted")
NEVER_RAN: Final = {"batch_cancelled", "batch_expired"}


@dataclass(frozen=True, slots=True)
class Load:
    """A job and what is known of it: ``failures`` are the rows that must fail, with their codes."""

    job_id: UUID
    actor: Actor
    texts: Sequence[str]
    failures: Mapping[int, str] = field(default_factory=dict)


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
    found = [_job(store, load) for load in loads]
    called = _called(calls, loads)
    unaudited = sum(_unaudited(store, load, called) for load in loads)
    total, distinct = sum(len(times) for times in called.values()), len(called)
    lost, doubled, wrong, miscounted = (sum(column) for column in zip(*found, strict=True))
    return Counters(lost, doubled, wrong, unaudited, miscounted, None, total - distinct)


def _job(store: Store, load: Load) -> tuple[int, int, int, int]:
    """(lost, doubled, wrong, miscounted)"""
    job = jobs.get_job(store, load.actor, load.job_id)
    output = list(iter_results(store, load.actor, load.job_id, which="output"))
    errors = list(iter_results(store, load.actor, load.job_id, which="errors"))
    outcomes = Counter(line.idx for line in (*output, *errors))
    lost = sum(idx not in outcomes for idx in range(len(load.texts))) if job.ended else len(load.texts)
    doubled = sum(seen - 1 for seen in outcomes.values())
    answered = sum(_wrong_answer(load, line) for line in output)
    early = job.state in {JobState.CANCELLED, JobState.EXPIRED}
    failed = sum(load.failures.get(line.idx) != line.code and not (early and line.code in NEVER_RAN) for line in errors)
    stored = [line for line in errors if line.code not in NEVER_RAN]
    with store.transaction(tenant=load.actor.tenant_id) as conn:
        sums = conn.execute(
            text(
                "SELECT coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0) FROM results"
                " WHERE tenant_id = :tenant AND job_id = :job"
            ),
            {"tenant": load.actor.tenant_id, "job": load.job_id},
        ).one()
    counted = (job.completed_count, job.failed_count, job.input_tokens, job.output_tokens)
    miscounted = sum(abs(told - real) for told, real in zip(counted, (len(output), len(stored), *sums), strict=True))
    return lost, doubled, answered + failed, miscounted


def _wrong_answer(load: Load, line: ResultLine) -> bool:
    answer = json.loads(line.payload or b"null")
    return line.idx in load.failures or answer.get("label") != expected_label(load.texts[line.idx], LABELS, ["{}"])


def _called(calls: Path, loads: Sequence[Load]) -> dict[str, list[float]]:
    """When the model was called on each row, by the text's digest; labels and templates are no rows."""
    known = {digest_of(one) for load in loads for one in load.texts}
    called: dict[str, list[float]] = {}
    for call in read_calls(calls):
        for digest in call.digests:
            if digest in known:
                called.setdefault(digest, []).append(call.at)
    return called


def _unaudited(store: Store, load: Load, called: Mapping[str, Sequence[float]]) -> int:
    """An event's time is its transaction's start, and it commits before any row is opened: so it comes before the call."""
    first_read = [float("inf")] * len(load.texts)
    after: UUID | None = None
    while events := list_events(store, load.actor, limit=500, after=after, action="rows.read", object_id=load.job_id):
        for event in events:
            for idx in range(event.first_idx or 0, min(event.end_idx or 0, len(first_read))):
                first_read[idx] = min(first_read[idx], event.at.timestamp())
        after = events[-1].event_id
    return sum(at < first_read[idx] for idx, one in enumerate(load.texts) for at in called.get(digest_of(one), ()))
