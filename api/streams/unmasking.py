"""Results of a job that masks, with values in the place of its masks: for a key with the scope `unmask`.

No mapping is kept. Each row's own input is read again, on record as `results.unmask` and not as `results.read`; its masks are made anew
under the key in the job's sealed spec, and those that stand in the row's answer are put back. A mask that is none of the row's own stays.
"""

from collections.abc import Iterator
from uuid import UUID

import msgspec

from api.errors import Refused
from db.actors import Actor
from db.audit.acts import denied
from db.audit.events import about_job
from db.connect import Store
from db.jobs.erasing import Which
from db.jobs.jobs import read_spec
from db.jobs.results import PAGE_ROWS, Place, ResultLine, iter_results
from workers.content.masks import JobMasks, unmasked, values_of
from workers.redaction.masking import standing_in


def unmasked_results(
    store: Store,
    actor: Actor,
    job_id: UUID,
    *,
    which: Which,
    after: Place | None = None,
    page: int = PAGE_ROWS,
    inputs: bool = False,
) -> Iterator[ResultLine]:
    """As :func:`db.jobs.results.iter_results`. Raises Refused (``not_masked``) of a job that masks nothing."""
    redact = read_spec(store, actor, job_id).get("redact")
    if redact is None:
        raise denied(
            Refused("not_masked", "This batch masks nothing: read it without unmask.", param="unmask"),
            store,
            actor,
            "results.unmask",
            **about_job(job_id),
        )
    masks = JobMasks(redact)
    results = iter_results(store, actor, job_id, which=which, after=after, page=page, inputs=True, action="results.unmask")
    for result in results:
        yield _put_back(masks, result, inputs=inputs)


def _put_back(masks: JobMasks, result: ResultLine, *, inputs: bool) -> ResultLine:
    payload = result.payload
    if payload is not None and standing_in(payload.decode()):
        values = values_of(masks.of_row(result.body, result.columns), (result.body, result.columns))
        payload = unmasked(payload, values)
    if inputs:
        return msgspec.structs.replace(result, payload=payload)
    return msgspec.structs.replace(result, payload=payload, body=None, columns=None)
