"""What other jobs made of a shard's rows, as its holder reads it: on record beside the rows, under the same lease, and row by row.

A job's sources are the steps before it, or the job whose output it takes. Its rows and theirs are those of one file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, text

from db import bulk
from db.actors import Lease
from db.audit.acts import record_work
from db.audit.damage import DAMAGED, Opening
from db.audit.events import About, record_digest
from db.connect import Store
from db.queue.row import WorkRow
from db.sealing.cells import BrokenKey, KeyOwner, Opener

NO_ANSWER: Final = "step_failed:{}"  # by the source's number

# One whose answers are gone, or are to be, is none any more.
_SOURCES: Final = text(
    """
    SELECT s.source_job_id FROM job_sources s JOIN jobs j ON j.tenant_id = s.tenant_id AND j.job_id = s.source_job_id
    WHERE s.tenant_id = :tenant AND s.job_id = :job AND j.deleted_at IS NULL AND j.output_deleted_at IS NULL
      AND (j.results_expire_at IS NULL OR j.results_expire_at > now())
    ORDER BY s.number
    """
)
_ANSWERS: Final = """
    SELECT idx, payload_sealed FROM results
    WHERE tenant_id = %(tenant)s AND job_id = %(source)s AND idx = ANY(%(idxs)s) AND idx >= %(first)s AND idx < %(end)s AND outcome = 1
    ORDER BY idx
    """


@dataclass(frozen=True, slots=True)
class Source:
    """Answers of a job by row, as they are sealed, and what opens them. A row that is not there has none: it failed, or never ran."""

    opener: Opener
    sealed: dict[int, bytes | None]


def record_sources(conn: Connection, store: Store, lease: Lease) -> dict[UUID, UUID]:
    """The event of each read of the shard's sources, in their order: on record before anything of them is seen, be it how long it is."""
    source_ids: Sequence[UUID] = conn.execute(_SOURCES, {"tenant": lease.tenant_id, "job": lease.job_id}).scalars().all()
    of_rows = [About(object_kind="job", object_id=source_id, first_idx=lease.first_idx, end_idx=lease.end_idx) for source_id in source_ids]
    return {
        source_id: record_work(conn, store, lease, "results.read", **about) for source_id, about in zip(source_ids, of_rows, strict=True)
    }


def select_sources(conn: Connection, store: Store, lease: Lease, events: Mapping[UUID, UUID], idxs: Sequence[int]) -> list[Source]:
    """In the transaction that opens the rows ``idxs`` of the shard, after :func:`record_sources`. Opens nothing.

    Those are left out that are gone, or went while they were read: what is missing of them then, nobody has taken.
    """
    job = {"tenant": lease.tenant_id, "job": lease.job_id}
    found = [(source_id, _select(conn, store, lease, source_id, event_id, idxs)) for source_id, event_id in events.items()]
    still_there = set(conn.execute(_SOURCES, job).scalars()) if found else set()
    return [source for source_id, source in found if source_id in still_there]


def _select(conn: Connection, store: Store, lease: Lease, source_id: UUID, event_id: UUID, idxs: Sequence[int]) -> Source:
    key = store.keyring.load(conn, lease.tenant_id, [("job", source_id)]).get(("job", source_id))
    at = {"tenant": lease.tenant_id, "source": source_id, "idxs": list(idxs), "first": lease.first_idx, "end": lease.end_idx}
    found = bulk.fetch(conn, _ANSWERS, at)
    record_digest(conn, lease.tenant_id, event_id, [sealed or b"" for _, sealed in found], rows=[idx for idx, _ in found])
    return Source(key or BrokenKey(KeyOwner(lease.tenant_id, "job", source_id)), dict(found))


def open_sources(opening: Opening, sources: Sequence[Source], rows: Sequence[WorkRow], expected: int) -> None:
    """Gives each row the answers of all sources, in their order. A row without one fails, and so do all where one of the ``expected``
    sources is gone. A row that has failed is left alone."""
    open_rows = [row for row in rows if row.code is None]
    if len(sources) < expected:
        for row in open_rows:
            row.fail("source_gone")
        return
    for number, source in enumerate(sources, start=1):
        there = [row for row in open_rows if row.code is None and row.idx in source.sealed]
        idxs = [row.idx for row in there]
        sealed = [source.sealed[idx] or b"" for idx in idxs]
        opened = source.opener.open_all("results.payload", idxs, sealed)
        if None in opened:
            opening.note_all(source.opener, "results.payload", idxs, sealed, opened)
        for row, answer in zip(there, opened, strict=True):
            row.answers = (*row.answers, answer or b"")
            if answer is None:
                row.fail(DAMAGED)
        for row in open_rows:
            if row.code is None and len(row.answers) < number:
                row.fail(NO_ANSWER.format(number))
