"""The end of what was deleted of large jobs, of results past their expiry, and of what was kept for long enough. Role dispatcher."""

from dataclasses import asdict
from typing import Any, Final

from sqlalchemy import Row, text

from db.audit.acts import record_duty
from db.connect import Store
from db.jobs.erasing import erase_job, erase_page, erase_results
from db.purging import ITEMS_AT_ONCE, Purge
from db.sweeps import Page, Place, paged

_ENDED_AT: Final = "coalesce({0}.completed_at, {0}.failed_at, {0}.expired_at, {0}.cancelled_at)"
# A step of a chain is kept as long as the last, which tells of it; that one gone, by its own end.
_WHOLE_ENDED_AT: Final = f"""
    coalesce((SELECT coalesce({_ENDED_AT.format("w")}, 'infinity') FROM jobs w
              WHERE w.tenant_id = j.tenant_id AND w.job_id = j.chain_id AND w.deleted_at IS NULL), {_ENDED_AT.format("j")})
    """  # noqa: S608 - constants
_ENDED_BEFORE: Final = _WHOLE_ENDED_AT + " < now() - make_interval(secs => CAST(:{} AS float8))"
# What a job that has not ended reads stays for it.
_UNREAD: Final = """
    NOT EXISTS (SELECT FROM job_sources s JOIN jobs r ON r.tenant_id = s.tenant_id AND r.job_id = s.job_id
                WHERE s.tenant_id = j.tenant_id AND s.source_job_id = j.job_id
                  AND r.state IN ('validating', 'in_progress', 'finalizing', 'cancelling'))
    """
_OUTLIVED: Final = f"(j.state IN ('completed', 'failed', 'cancelled', 'expired') AND {_ENDED_BEFORE.format('jobs')} AND {_UNREAD})"
_DUE: Final = f"""
    (j.erase_from_idx IS NOT NULL OR {_OUTLIVED}
     OR (j.state IN ('completed', 'failed', 'cancelled', 'expired')
         AND (j.output_deleted_at IS NULL OR j.errors_deleted_at IS NULL)
         AND (j.results_expire_at <= now() OR {_ENDED_BEFORE.format("results")} AND {_UNREAD})))
    """
_FIND: Final = paged(
    f"SELECT j.created_at AS at, j.job_id AS id, j.tenant_id, j.job_id FROM jobs j WHERE {_DUE}",  # noqa: S608 - constants
    "timestamptz",
)
_LOCK: Final = text(
    f"""
    SELECT j.job_id, j.erase_from_idx, {_OUTLIVED} AS outlived
    FROM jobs j WHERE j.tenant_id = :tenant AND j.job_id = :job AND {_DUE} FOR NO KEY UPDATE SKIP LOCKED
    """  # noqa: S608 - constants
)


class JobPurge(Purge):
    """See :class:`db.purging.Purge`."""

    def _look(self, place: Place) -> Page:
        return Page.look(self._store, _FIND, place, limit=ITEMS_AT_ONCE, **asdict(self._lasting))

    def _erase_page(self, store: Store, item: Row[Any]) -> bool | None:
        with store.transaction(tenant=item.tenant_id) as conn:
            due = {"tenant": item.tenant_id, "job": item.job_id, **asdict(self._lasting)}
            conn.execute(_LOCK, due)
            job = conn.execute(_LOCK, due).one_or_none()  # asked again: a reader may have been made while the job was being locked
            if job is None:
                return None
            if job.erase_from_idx is not None:
                return erase_page(conn, item.tenant_id, job.job_id, self._page_rows)
            action = "job.expire" if job.outlived else "results.expire"
            record_duty(conn, store, item.tenant_id, action, object_kind="job", object_id=job.job_id, job_id=job.job_id)
            if job.outlived:
                return erase_job(conn, item.tenant_id, job.job_id, at_once=self._page_rows)
            return erase_results(conn, item.tenant_id, job.job_id, ("output", "errors"), at_once=self._page_rows)
