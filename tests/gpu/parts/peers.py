"""The same texts and weights through sentence-transformers and through our own loop, on one device, in turns."""

import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Final

import numpy as np

from tests.gpu.card import Watch, own_index
from tests.gpu.finding import CannotRun, Finding, Setting
from tests.gpu.models import encoder, make, texts
from tests.gpu.parts.lanes import through
from tests.gpu.timing import synchronize

TURNS: Final = 3
BATCH_SIZES: Final = (32, 256)  # its default, and what its users take on a GPU
LEAST_TIMES: Final = 1.0
LEAST_COSINE: Final = 0.99


def run(setting: Setting) -> Finding:
    if find_spec("sentence_transformers") is None:
        raise CannotRun("the package sentence-transformers is not installed")
    found = Finding()
    for size, count in (("minilm-size", 20_000), ("bert-base", 6_000)) if setting.on_gpu else (("tiny", 100),):
        _compare(found, setting, size, count)
    return found


def _compare(found: Finding, setting: Setting, size: str, count: int) -> None:
    folder = make(size, setting.folder)
    rows = texts(folder, count)
    number_format = "bfloat16" if setting.on_gpu else "float32"
    peer = _peer(folder, setting.device, number_format)
    ours = encoder(folder, setting.device, number_format)

    def run_ours() -> np.ndarray:
        ids = ours.tokenize(rows)[0]
        return through(ours, ids, lanes=1, on_gpu=setting.on_gpu)[0]

    ways: dict[str, Callable[[], np.ndarray]] = {"textmill": run_ours}
    for batch_size in BATCH_SIZES:
        ways[f"sentence-transformers, {batch_size} a batch"] = lambda size=batch_size: np.asarray(  # type: ignore[misc]
            peer.encode(rows, batch_size=size, normalize_embeddings=True, show_progress_bar=False, convert_to_numpy=True), np.float32
        )
    took: dict[str, list[float]] = {name: [] for name in ways}
    answers = {}
    for turn in range(TURNS if setting.on_gpu else 1):
        for name, way in ways.items():
            if turn == 0:
                way()  # kernels, caches
            with Watch(own_index() if setting.on_gpu else None) as watch:
                synchronize(setting.device)
                began = time.perf_counter()
                answers[name] = way()
                took[name].append(time.perf_counter() - began)
            found.figures[f"{size}: {name}: device_busy_percent"] = watch.figures()["device_busy_percent"]
    rates = {name: len(rows) / statistics.median(seconds) for name, seconds in took.items()}
    found.figures |= {f"{size}: {name}: documents_per_second": round(rate) for name, rate in rates.items()}
    best = max(rate for name, rate in rates.items() if name != "textmill")
    found.figures[f"{size}: times the faster of theirs"] = round(rates["textmill"] / best, 2)
    theirs = answers[f"sentence-transformers, {BATCH_SIZES[0]} a batch"]
    found.at_least(f"{size}: least cosine of theirs and ours", float((theirs * answers["textmill"]).sum(1).min()), LEAST_COSINE)
    if setting.on_gpu:
        found.at_least(f"{size}: times the faster of theirs", rates["textmill"] / best, LEAST_TIMES)


def _peer(folder: Any, device: str, number_format: str) -> Any:
    import torch
    from sentence_transformers import SentenceTransformer

    # Of a folder without a file of its own it takes the mean over a text's tokens.
    return SentenceTransformer(str(folder), device=device, local_files_only=True).to(getattr(torch, number_format)).eval()
