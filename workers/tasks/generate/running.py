"""Running a generation: what the decoder goes on to say, in the shapes that clients of the OpenAI API know."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec

from db.queue.row import WorkRow
from workers.batches.outcomes import BatchShare, FailedRow
from workers.engines.contract.decoding import Generation
from workers.inference.continuous import TAKEN_BACK
from workers.stages import StageSeconds
from workers.tasks.task import Group, Ran, Work

_encode: Final = msgspec.json.Encoder().encode


def stream(work: Work, group: Group, rows: Sequence[WorkRow], seconds: float, let_go: Callable[[], bool]) -> Iterator[Ran]:
    decoder = work.runtime.decoder(group.model)
    answering = decoder.begin([row.ask for row in rows], work.ticket)
    version, may_begin = decoder.engine.model_version, True
    while answering.left:
        if may_begin and let_go():
            answering.take_back()
            may_begin = False
        answers = [(rows[place], answer) for place, answer in answering.take(seconds) if answer is not TAKEN_BACK]
        began, created = time.perf_counter(), int(time.time())
        for row, answer in answers:
            if isinstance(answer, FailedRow):
                row.fail(answer.code)
            else:
                _complete(row, answer, work, group.named, version, created)
        if answers:
            share, stages = answering.share, answering.stages
            answering.share, answering.stages = BatchShare(), StageSeconds()
            stages.seal = time.perf_counter() - began
            yield Ran(version, share, stages, [row for row, _ in answers])


def _complete(row: WorkRow, said: Generation, work: Work, model: str, model_version: str, created: int) -> None:
    """``created``: Unix seconds."""
    chat = row.ask.prompt is None
    choice: dict[str, object] = {"index": 0, "logprobs": None, "finish_reason": said.finish_reason}
    if chat:
        choice["message"] = {"role": "assistant", "content": said.text.strip(), "refusal": None}
    else:  # a continuation carries on in mid-sentence, where its leading space belongs to it
        choice["text"] = said.text
    input_tokens, output_tokens = len(row.ask.ids), len(said.ids)
    answer = {
        "id": f"{'chatcmpl' if chat else 'cmpl'}_{work.lease.job_id.hex}{row.idx:08x}",
        "object": "chat.completion" if chat else "text_completion",
        "created": created,
        "model": model,
        "model_version": model_version,
        "choices": [choice],
        "usage": {"prompt_tokens": input_tokens, "completion_tokens": output_tokens, "total_tokens": input_tokens + output_tokens},
    }
    row.complete(_encode(answer), input_tokens, output_tokens)
