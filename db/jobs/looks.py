"""Looks at a job by who watches it: a client asks every second how far it is, and sees the same metadata and file name each time.

One event an hour stands for the looks of one principal with one key from one address, as long as each brings out the very ciphertexts that
this event has on record. Whatever else a look brings out is recorded before it is opened, as any read is. Results are no look.
"""

from typing import Final
from uuid import UUID

from sqlalchemy import Connection, text

from db.actors import Actor
from db.audit.events import address_of

# An event without a digest (a job's timeline) brought nothing out, and stands for nothing here; nor does one of a key that has ended.
_LAST: Final = text(
    """
    SELECT d.digest FROM audit_events e JOIN audit_digests d ON d.tenant_id = e.tenant_id AND d.event_id = e.event_id
    WHERE e.tenant_id = :tenant AND e.object_id = :job AND e.action = 'job.read' AND e.at >= date_trunc('hour', now())
      AND e.outcome = 'allowed' AND e.component = 'api' AND e.principal_id = :principal AND e.key_id IS NOT DISTINCT FROM :key
      AND e.origin IS NOT DISTINCT FROM CAST(:origin AS inet)
      AND NOT EXISTS (SELECT FROM api_keys k WHERE k.tenant_id = e.tenant_id AND k.key_id = e.key_id
                      AND (k.revoked_at IS NOT NULL OR k.expires_at <= clock_timestamp()))
    ORDER BY e.at DESC LIMIT 1
    """
)


def look_on_record(conn: Connection, actor: Actor, job_id: UUID) -> bytes | None:
    """The digest of what the actor's last recorded look at the job brought out; None where there was none since this hour began."""
    who = {"principal": actor.principal_id, "key": actor.key_id, "origin": address_of(actor.origin)}
    digest = conn.execute(_LAST, {"tenant": actor.tenant_id, "job": job_id, **who}).scalar_one_or_none()
    return None if digest is None else bytes(digest)
