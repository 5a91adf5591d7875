"""Running a generation: what the decoder goes on to say, in the shapes that clients of the OpenAI API know."""

import time
from collections.abc import Sequence
from typing import Final

import msgspec

from db.queue.row import WorkRow
from workers.batches.outcomes import FailedRow
from workers.engines.contract.decoding import Generation
from workers.tasks.task import Group, Ran, Work

_encode: Final = msgspec.json.Encoder().encode


def run(work: Work, group: Group, rows: Sequence[WorkRow]) -> Ran:
    decoder = work.runtime.decoder(group.model)
    found, share, stages = decoder.answer([row.ask for row in rows], work.ticket)
    began, created = time.perf_counter(), int(time.time())
    version = decoder.engine.model_version
    for row, generation in zip(rows, found, strict=True):
        if isinstance(generation, FailedRow):
            row.fail(generation.code)
        else:
            _complete(row, generation, work, group.named, version, created)
    stages.seal = time.perf_counter() - began
    return Ran(version, share, stages)


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
