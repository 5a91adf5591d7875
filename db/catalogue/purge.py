"""The end of versions that nobody needs: all but the last of a name, and those that their owner deleted. Role dispatcher.

What a job that has not ended began with stays, whatever else is true of it.
"""

from functools import partial
from typing import Any, Final

from sqlalchemy import Row, TextClause, delete, select

from db.audit.acts import record_duty
from db.connect import Store
from db.jobs.versions import KINDS, Kind, in_use, lock_versions
from db.sweeps import Page, paged, sweep

KEPT_VERSIONS: Final = 5  # of a name, the newest ones; older ones go once no job that runs began with them
VERSIONS_AT_ONCE: Final = 500  # of a pass and a kind


def purge_versions(store: Store) -> int:
    """One pass; how many are gone. Raises Unfinished after all others where some could not be removed."""
    return sum(
        sweep(store, Page.look(store, _surplus(kind), None, limit=VERSIONS_AT_ONCE, kept=KEPT_VERSIONS), partial(_remove, kind))
        for kind in KINDS.values()
    )


def _surplus(kind: Kind) -> TextClause:
    """In the sight of this statement; :func:`_remove` looks again."""
    return paged(
        f"""
        SELECT v.created_at AS at, v.id, v.tenant_id FROM (
            SELECT tenant_id, {kind.id.name} AS id, created_at, deleted_at,
                   row_number() OVER (
                       PARTITION BY tenant_id, coalesce(first_id, {kind.id.name}), deleted_at IS NULL ORDER BY number DESC) AS place
            FROM {kind.table.name} WHERE {kind.own.compile(compile_kwargs={"literal_binds": True})}) v
        WHERE (v.deleted_at IS NOT NULL OR v.place > :kept)
          AND NOT EXISTS (
            SELECT FROM job_pins p JOIN jobs j ON j.tenant_id = p.tenant_id AND j.job_id = p.job_id
            WHERE p.tenant_id = v.tenant_id AND p.version_id = v.id
              AND j.state IN ('validating', 'in_progress', 'finalizing', 'cancelling'))
        """,  # noqa: S608 - constants
        "timestamptz",
    )


def _remove(kind: Kind, store: Store, version: Row[Any]) -> int:
    """1 once it is gone. Under the lock no job begins with it: asked again behind that."""
    own = (kind.table.c.tenant_id == version.tenant_id, kind.id == version.id)
    with store.transaction(tenant=version.tenant_id) as conn:
        lock_versions(conn, version.tenant_id)
        if conn.execute(select(kind.id).where(*own, in_use(kind))).one_or_none() is not None:
            return 0
        gone = conn.execute(delete(kind.table).where(*own)).rowcount
        if gone:
            record_duty(conn, store, version.tenant_id, f"{kind.word}.purge", object_kind=kind.word, object_id=version.id)
    return gone
