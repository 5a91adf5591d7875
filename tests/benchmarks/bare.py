"""The bare model loop: the worker's own runtime (lanes, token budget, micro-batcher) over texts in memory. No queue, no store, no sealing.

A process of its own: `python -m tests.benchmarks.bare [--exact]` reads one JSON line a run on stdin ({"texts": […], "labels": […]}) and
answers with one ({"seconds", "rows", "cpu_seconds", "metrics"}). As many threads as a worker has shards in flight hand in pieces, so that
tokenising overlaps with the model as it does there. Its priority is the worker's: on a busy machine another would favour one of the two.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, cast

from api.local.processes.parts import WORKER_NICENESS
from tests.benchmarks.mill import ENCODER
from tests.benchmarks.turns import Run

PIECES_ROWS = (64, 256, 1024)


class BareLoop:
    """The process, from the benchmark's side. ``exact``: the model in fp32, whatever this machine's calibration chose.

    ``piece_rows``: how many texts a thread hands in at once; :meth:`tune` finds the fastest, so that what we are compared with is the best
    plain loop and not a slow one.
    """

    def __init__(self, *, exact: bool = False) -> None:
        self.piece_rows = PIECES_ROWS[0]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.bare", *(["--exact"] if exact else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def run(self, texts: Sequence[str], labels: Sequence[str], *, answers: bool = False) -> dict[str, object]:
        """With ``answers`` also ``labels`` and ``scores`` (by the order of the labels) of every text, and the ``model_version``."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"texts": list(texts), "labels": list(labels), "piece_rows": self.piece_rows, "answers": answers}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the bare loop ended"
        return cast("dict[str, object]", json.loads(line))

    def measure(self, texts: Sequence[str], labels: Sequence[str]) -> Run:
        answer = cast("dict[str, Any]", self.run(texts, labels))
        assert answer["rows"] == len(texts)
        return Run(len(texts), answer["seconds"], answer["cpu_seconds"], {"metrics": answer["metrics"], "piece_rows": self.piece_rows})

    def tune(self, texts: Sequence[str], labels: Sequence[str]) -> Run:
        """Warms up, and keeps the piece size that was fastest over these texts. Returns that run."""
        self.run(texts[:64], labels)
        tried = {}
        for self.piece_rows in PIECES_ROWS:
            tried[self.piece_rows] = self.measure(texts, labels)
        self.piece_rows = max(tried, key=lambda rows: tried[rows].rate)
        return tried[self.piece_rows]


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.bare", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--exact", action="store_true", help="the model in fp32")
    exact = parser.parse_args(arguments).exact
    os.nice(max(0, WORKER_NICENESS - os.getpriority(os.PRIO_PROCESS, 0)))
    from tests.benchmarks.own_runtime import open_runtime

    runtime, settings = open_runtime(exact=exact)
    with ThreadPoolExecutor(settings.threads) as threads:
        for line in sys.stdin:
            print(json.dumps(_answer(runtime, threads, json.loads(line))), flush=True)
    runtime.close()


def _answer(runtime: Any, threads: ThreadPoolExecutor, request: dict[str, Any]) -> dict[str, object]:
    from tests.benchmarks.own_runtime import scores_of

    texts, labels, size = request["texts"], request["labels"], request.get("piece_rows", PIECES_ROWS[0])

    def classify(piece: list[str]) -> Any:
        answered, scores = scores_of(runtime, piece, labels)
        return answered, scores.tolist(), scores.argmax(axis=1).tolist()

    pieces = [texts[first : first + size] for first in range(0, len(texts), size)]
    began, cpu = time.perf_counter(), time.process_time()
    outcomes = list(threads.map(classify, pieces))
    answer: dict[str, object] = {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu,
        "rows": sum(len(scores) for _, scores, _ in outcomes),
        "metrics": {
            name: sum(answered.share.as_dict()[name] for answered, _, _ in outcomes)
            for name in ("tokens", "padding_tokens", "budget_tokens", "batches")
        },
    }
    if request.get("answers"):
        answer["labels"] = [labels[winner] for _, _, winners in outcomes for winner in winners]
        answer["scores"] = [row for _, scores, _ in outcomes for row in scores]
        answer["model_version"] = runtime.encoder(ENCODER).engine.model_version
    return answer


if __name__ == "__main__":
    main(sys.argv[1:])
