"""Running a generation: what the decoder goes on to say, in the shapes that clients of the OpenAI API know."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import msgspec

from db.queue.row import WorkRow
from workers.batches.outcomes import BatchShare
from workers.engines.contract.decoding import DecoderEngine
from workers.tasks.generate.by_writer import ByWriter
from workers.tasks.generate.task import ANSWERS
from workers.tasks.generate.told import Told
from workers.tasks.generate.trying import OpenRow, Trying
from workers.tasks.task import Group, Ran, Work

_encode: Final = msgspec.json.Encoder().encode


def stream(work: Work, group: Group, rows: Sequence[WorkRow], seconds: float, let_go: Callable[[], bool]) -> Iterator[Ran]:
    decoder = work.runtime.decoder(group.model) if group.writer is None else ByWriter(group.writer, rows)
    trying = Trying(decoder, work.ticket, [OpenRow(row) for row in rows], work.spec)
    version, may_begin = decoder.engine.model_version, True
    while trying.left:
        if may_begin and let_go():
            trying.take_back()
            may_begin = False
        ended = trying.take(seconds)
        began, created = time.perf_counter(), int(time.time())
        share, stages = trying.taken()
        for one in ended:
            _complete(one, work, group.named, decoder.engine, created, share, tries=one.tries if trying.checks else None)
        if ended:
            stages.seal = time.perf_counter() - began
            yield Ran(version, share, stages, [one.row for one in ended])


def _complete(
    one: OpenRow, work: Work, model: str, engine: DecoderEngine | ByWriter, created: int, share: BatchShare, *, tries: int | None
) -> None:
    """``created``: Unix seconds."""
    row, failed = one.row, one.failed
    if failed is not None:
        row.fail(failed.code)
        row.input_tokens, row.output_tokens = one.used.prompt, one.used.said
        return
    number = f"{work.lease.job_id.hex}{row.idx:08x}"
    version = next((told.model_version for answers in one.said for told in answers if told.model_version), engine.model_version)
    told = Told(row.ask, one.said, number, created, model, version, _fingerprint(version), engine.vocabulary, one.used, tries, one.rule)
    share.cached_tokens += one.used.cached
    share.limit_tokens += one.tries * row.ask.n * sum(request.max_tokens for request in row.ask.requests)
    row.complete(_encode(ANSWERS[work.lease.endpoint](told)), one.used.prompt, one.used.said)


@cache
def _fingerprint(model_version: str) -> str:
    """Engine, number format and version: what besides the weights decides which text a seed gives."""
    try:
        own = version("textmill")
    except PackageNotFoundError:
        own = "0"
    return f"{model_version.partition('+')[2] or model_version}+textmill-{own}"
