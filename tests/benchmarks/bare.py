"""The bare model loop: the worker's own runtime (lanes, token budget, micro-batcher) over texts in memory. No queue, no store, no sealing.

A process of its own: `python -m tests.benchmarks.bare` reads one JSON line a run on stdin ({"texts": […], "labels": […]}) and answers with
one ({"seconds", "rows", "cpu_seconds", "metrics"}). As many threads as a worker has shards in flight hand in pieces, so that tokenising
overlaps with the model as it does there.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self, cast

ENCODER = "minilm-l6-v2"
PIECE_ROWS = 64


class BareLoop:
    """The process, from the benchmark's side."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.bare"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.communicate(timeout=60)

    def run(self, texts: Sequence[str], labels: Sequence[str]) -> dict[str, object]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"texts": list(texts), "labels": list(labels)}) + "\n")
        self._process.stdin.flush()
        return cast("dict[str, object]", json.loads(self._process.stdout.readline()))


def main() -> None:
    from workers.device import pin
    from workers.settings import WorkerSettings, load

    settings = load(WorkerSettings)
    pinned = pin(settings.device, settings.lanes)
    settings = settings.model_copy(update={"device": pinned.device})
    from workers.runtime import Runtime

    runtime = Runtime(settings)
    runtime.warm([ENCODER])
    with ThreadPoolExecutor(settings.threads) as threads:
        for line in sys.stdin:
            request = json.loads(line)
            texts, labels = request["texts"], request["labels"]
            pieces = [texts[first : first + PIECE_ROWS] for first in range(0, len(texts), PIECE_ROWS)]
            began, cpu = time.perf_counter(), time.process_time()
            outcomes = list(
                threads.map(lambda piece: runtime.classify(ENCODER, piece, [labels] * len(piece), [None] * len(piece)), pieces)  # noqa: B023
            )
            answer = {
                "seconds": time.perf_counter() - began,
                "cpu_seconds": time.process_time() - cpu,
                "rows": sum(len(outcome.rows) for outcome in outcomes),
                "metrics": {
                    name: sum(outcome.share.as_dict()[name] for outcome in outcomes)
                    for name in ("tokens", "padding_tokens", "budget_tokens", "batches")
                },
            }
            print(json.dumps(answer), flush=True)
    runtime.close()


if __name__ == "__main__":
    main()
