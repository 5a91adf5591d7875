"""Two lanes of one model on one device: the same answers, and what it is worth."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Final

import numpy as np

from tests.gpu.card import Watch, own_index
from tests.gpu.finding import Finding, Setting
from tests.gpu.models import encoder, make, texts
from tests.gpu.timing import synchronize
from workers.arrays import Ids, Vectors
from workers.batches.batcher import Batcher
from workers.batches.outcomes import BatchReport, FailedRow
from workers.engines.contract.plan import CPU_ENCODER, GPU_ENCODER

CALLS: Final = 8
CLOSE: Final = 0.02  # unit vectors in bf16: rows meet other neighbours, so sums are in another order
LEAST_WORTH: Final = 0.95  # of one lane's speed


def run(setting: Setting) -> Finding:
    found = Finding()
    for size, count in (("minilm-size", 40_000), ("bert-base", 12_000)) if setting.on_gpu else (("tiny", 200),):
        folder = make(size, setting.folder)
        engine = encoder(folder, setting.device, "bfloat16")
        rows = engine.tokenize(texts(folder, count))[0]
        answers, rates = {}, {}
        for lanes in (1, 2):
            with Watch(own_index() if setting.on_gpu else None) as watch:
                answers[lanes], rates[lanes] = through(engine, rows, lanes=lanes, on_gpu=setting.on_gpu)
            found.figures[f"{size}_{lanes}_lanes_tokens_per_second"] = round(rates[lanes])
            found.figures[f"{size}_{lanes}_lanes_device_busy_percent"] = watch.figures()["device_busy_percent"]
        found.at_most(f"{size}: farthest difference of the two", float(np.abs(answers[1] - answers[2]).max()), CLOSE)
        found.figures[f"{size}_two_lanes_times_one"] = round(rates[2] / rates[1], 3)
        if setting.on_gpu:
            found.at_least(f"{size}: two lanes, of one lane's speed", rates[2] / rates[1], LEAST_WORTH)
    return found


def through(engine: Any, rows: list[Ids], *, lanes: int, on_gpu: bool) -> tuple[Vectors, float]:
    """All rows through a micro-batcher, from several callers at once, after a first part that warms up. Tokens a second."""
    policy = GPU_ENCODER if on_gpu else replace(CPU_ENCODER, budget_tokens=512)
    reports: list[BatchReport] = []
    batcher: Batcher[Ids, Any, Vectors] = Batcher(
        engine.prepare, lambda prepared: list(engine.run(prepared)), name="lanes", lanes=lanes, policy=policy, observe=reports.append
    )
    try:
        first = rows[: max(1, len(rows) // 20)]
        batcher.submit(first, [len(ids) for ids in first]).result()
        synchronize("cuda" if on_gpu else "cpu")
        size = -(-len(rows) // CALLS)
        pieces = [rows[at : at + size] for at in range(0, len(rows), size)]
        began = time.perf_counter()
        with ThreadPoolExecutor(CALLS) as callers:
            served = list(callers.map(lambda piece: batcher.submit(piece, [len(ids) for ids in piece]).result(), pieces))
        seconds = time.perf_counter() - began
    finally:
        batcher.stop(drain=False)
    assert all(report.lanes == lanes for report in reports)
    answers = [answer for one in served for answer in one.answers if not isinstance(answer, FailedRow)]
    assert len(answers) == len(rows), f"{len(rows) - len(answers)} rows failed"
    return np.stack(answers), sum(len(ids) for ids in rows) / seconds
