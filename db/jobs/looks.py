"""Looks at a job by who watches it: a client asks every second how far it is, and sees the same metadata and file name each time.

One event an hour stands for the looks of one principal with one key from one address, as long as each brings out the very ciphertexts that
this event has on record. Whatever else a look brings out is recorded before it is opened, as any read is. Results are no look.
"""

from typing import Final
from uuid import UUID

from sqlalchemy import Connection, text

from db.actors import Actor
from db.audit.events import KEY_IS_GOOD, address_of

# An event without a digest (a job's timeline) brought nothing out, and stands for nothing here; nor does one of a key that has ended.
_LAST: Final = text(
    f"""
    SELECT d.digest FROM audit_events e JOIN audit_digests d ON d.tenant_id = e.tenant_id AND d.event_id = e.event_id
    WHERE e.tenant_id = :tenant_id AND e.object_id = :job AND e.action = 'job.read' AND e.at >= date_trunc('hour', now())
      AND e.outcome = 'allowed' AND e.component = 'api' AND e.principal_id = :principal AND e.key_id IS NOT DISTINCT FROM :key_id
      AND e.origin IS NOT DISTINCT FROM CAST(:origin AS inet) AND {KEY_IS_GOOD}
    ORDER BY e.at DESC LIMIT 1
    """  # noqa: S608 - constants
)


def look_on_record(conn: Connection, actor: Actor, job_id: UUID) -> bytes | None:
    """The digest of what the actor's last recorded look at the job brought out; None where there was none since this hour began."""
    who = {"tenant_id": actor.tenant_id, "principal": actor.principal_id, "key_id": actor.key_id, "origin": address_of(actor.origin)}
    digest = conn.execute(_LAST, {**who, "job": job_id}).scalar_one_or_none()
    return None if digest is None else bytes(digest)
