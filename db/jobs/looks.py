"""Looks at a job by who watches it: a client asks every second how far it is, and sees the same metadata and file name each time.

One event an hour stands for the looks of one principal with one key from one address. A process keeps what its last looks brought out, as
it is sealed, and shows it again to whom has just these ciphertexts on record: nothing is read anew of what asks for an event. To anybody
else it shows what it reads for them, on record as any read is. Results are no look.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, text

from db.actors import Actor
from db.audit.events import KEY_IS_GOOD, address_of
from db.recent import Recent
from db.sealing.cells import digest_of

KEPT_LOOKS: Final = 1_000

# An event without a digest (a job's timeline) brought nothing out, and stands for nothing here; nor does one of a key that has ended. A
# file that is gone has no name any more, and that it went is on record. Counted, for of EXISTS a planner thinks that the whole table has
# one soon where a file has many events.
_LAST: Final = text(
    f"""
    SELECT d.digest FROM audit_events e JOIN audit_digests d ON d.tenant_id = e.tenant_id AND d.event_id = e.event_id
    WHERE e.tenant_id = :tenant_id AND e.object_id = :job AND e.action = 'job.read' AND e.at >= date_trunc('hour', now())
      AND e.outcome = 'allowed' AND e.component = 'api' AND e.principal_id = :principal AND e.key_id IS NOT DISTINCT FROM :key_id
      AND e.origin IS NOT DISTINCT FROM CAST(:origin AS inet) AND {KEY_IS_GOOD}
      AND (SELECT count(*) FROM audit_events g WHERE g.tenant_id = :tenant_id AND g.object_id = ANY(CAST(:files AS uuid[]))
           AND g.action IN ('file.delete', 'file.expire') AND g.outcome = 'allowed') = 0
    ORDER BY e.at DESC LIMIT 1
    """  # noqa: S608 - constants
)


@dataclass(frozen=True, slots=True)
class Shown:
    """What is sealed of that which is shown of jobs: their metadata, by job, the names of their files, by file, and what they are called as
    steps of chains, by job."""

    metadata: Mapping[UUID, bytes]
    file_names: Mapping[UUID, bytes]
    steps: Mapping[UUID, bytes]

    @property
    def ciphertexts(self) -> list[bytes]:
        return [*self.metadata.values(), *self.file_names.values(), *self.steps.values()]


_KEPT: Final = Recent[UUID, Shown](KEPT_LOOKS)  # by job: their ids are never used again


def keep_look(conn: Connection, job_id: UUID, shown: Shown) -> None:
    """What a look brings out, with the event that stands for it."""
    _KEPT.put_after(conn, job_id, shown)


def look_on_record(conn: Connection, actor: Actor, job_id: UUID) -> Shown | None:
    """What the job's last look brought out, where it is that which the actor's own event of this hour has on record."""
    if (shown := _KEPT.get(job_id)) is None:
        return None
    who = {"tenant_id": actor.tenant_id, "principal": actor.principal_id, "key_id": actor.key_id, "origin": address_of(actor.origin)}
    digest = conn.execute(_LAST, {**who, "job": job_id, "files": list(shown.file_names)}).scalar_one_or_none()
    return shown if digest == digest_of(shown.ciphertexts) else None
