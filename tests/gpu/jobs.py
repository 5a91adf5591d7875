"""A job of generated texts through a running stack, from the first byte sent to the last result read."""

import io
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from api.client import Client, Upload
from api.wire import Batch
from tests.benchmarks.mill import Mill
from tests.waiting import wait_until

LABELS: Final = ("business", "politics", "sport")
LOOK_SECONDS: Final = 0.05
LIMIT_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class Answered:
    """``ids`` of the rows that were answered, as often as they were."""

    seconds: float
    ids: list[str]
    failed: int
    tokens: int


def settings(models: Path, *, on_gpu: bool) -> dict[str, str]:
    """For a stack: the generated models, and on a CPU a way to run them that needs no calibration."""
    chosen = {} if on_gpu else {"TEXTMILL_DEVICE": "cpu", "TEXTMILL_ENGINE": "torch", "TEXTMILL_DTYPE": "float32"}
    return {"TEXTMILL_MODEL_FOLDERS": str(models), **chosen}


def begin(client: Client, model: str, texts: Sequence[str]) -> Batch:
    lines = b"".join(
        json.dumps(
            {
                "custom_id": f"row-{at}",
                "method": "POST",
                "url": "/v1/classifications",
                "body": {"model": model, "labels": LABELS, "input": text},
            }
        ).encode()
        + b"\n"
        for at, text in enumerate(texts)
    )
    file = client.upload(Upload(io.BytesIO(lines), "gpu.jsonl", "batch", {}, len(lines)))
    return client.create_batch(file.id, "/v1/classifications")


def finish(client: Client, batch: Batch, began: float) -> Answered:
    """Waits for the end, and reads every result. Raises AssertionError where the job does not complete."""

    def ended() -> Batch | None:
        now = client.batch(batch.id)
        return now if now.ended else None

    done = wait_until(ended, "the job has ended", LIMIT_SECONDS, every_seconds=LOOK_SECONDS)
    assert done is not None
    assert done.status == "completed", f"a job {done.status}"
    lines = [json.loads(line) for line in client.lines(done.output_file or "")]
    seconds = time.perf_counter() - began
    failed = sum(1 for _ in client.lines(done.error_file)) if done.error_file else 0
    metrics = done.textmill.metrics if done.textmill is not None else None
    return Answered(seconds, [line["custom_id"] for line in lines], failed, int((metrics or {}).get("tokens", 0)))


def through(mill: Mill, model: str, texts: Sequence[str]) -> Answered:
    began = time.perf_counter()
    return finish(mill.client, begin(mill.client, model, texts), began)
