"""Running a generation: what the decoder goes on to say, in the shapes that clients of the OpenAI API know."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import msgspec

from db.queue.row import WorkRow
from workers.batches.outcomes import BatchShare, FailedRow
from workers.engines.contract.decoding import DecoderEngine, Generation
from workers.inference.continuous import TAKEN_BACK
from workers.stages import StageSeconds
from workers.tasks.generate.task import ANSWERS
from workers.tasks.generate.told import Told
from workers.tasks.task import Group, Ran, Work

_encode: Final = msgspec.json.Encoder().encode


def stream(work: Work, group: Group, rows: Sequence[WorkRow], seconds: float, let_go: Callable[[], bool]) -> Iterator[Ran]:
    decoder = work.runtime.decoder(group.model)
    open_rows = [_Open(row) for row in rows]
    places = [(one, nth) for one in open_rows for nth in range(one.left)]
    answering = decoder.begin([request for row in rows for request in row.ask.each()], work.ticket)
    version, may_begin = decoder.engine.model_version, True
    while answering.left:
        if may_begin and let_go():
            answering.take_back()
            may_begin = False
        answers = [(*places[place], answer) for place, answer in answering.take(seconds)]
        ended = [one for one, nth, answer in answers if one.take(nth, answer)]
        began, created = time.perf_counter(), int(time.time())
        for one in ended:
            _complete(one, work, group.named, decoder.engine, created, answering.share)
        if ended:
            share, stages = answering.share, answering.stages
            answering.share, answering.stages = BatchShare(), StageSeconds()
            stages.seal = time.perf_counter() - began
            yield Ran(version, share, stages, [one.row for one in ended])


class _Open:
    """A row of which some answers are there. One that lost an answer to a drain stays open: it is asked again as a whole."""

    def __init__(self, row: WorkRow) -> None:
        self.row = row
        self.left = row.ask.n * len(row.ask.requests)
        self._answers: list[Generation | FailedRow] = [TAKEN_BACK] * self.left

    def take(self, nth: int, answer: Generation | FailedRow) -> bool:
        """Whether the row has ended with it."""
        self._answers[nth] = answer
        self.left -= 1
        return not self.left and not any(one is TAKEN_BACK for one in self._answers)

    @property
    def failed(self) -> FailedRow | None:
        return next((one for one in self._answers if isinstance(one, FailedRow)), None)

    @property
    def said(self) -> list[list[Generation]]:
        """Of each prompt its answers."""
        said = [one for one in self._answers if not isinstance(one, FailedRow)]
        return [said[first : first + self.row.ask.n] for first in range(0, len(said), self.row.ask.n)]


def _complete(one: _Open, work: Work, model: str, engine: DecoderEngine, created: int, share: BatchShare) -> None:
    """``created``: Unix seconds."""
    row, failed = one.row, one.failed
    if failed is not None:
        row.fail(failed.code)
        return
    number = f"{work.lease.job_id.hex}{row.idx:08x}"
    version = next((told.model_version for answers in one.said for told in answers if told.model_version), engine.model_version)
    told = Told(row.ask, one.said, number, created, model, version, _fingerprint(version), engine.vocabulary)
    usage = told.usage()
    share.cached_tokens += told.cached_tokens
    row.complete(_encode(ANSWERS[work.lease.endpoint](told)), usage["prompt_tokens"], usage["completion_tokens"])


@cache
def _fingerprint(model_version: str) -> str:
    """Engine, number format and version: what besides the weights decides which text a seed gives."""
    try:
        own = version("textmill")
    except PackageNotFoundError:
        own = "0"
    return f"{model_version.partition('+')[2] or model_version}+textmill-{own}"
