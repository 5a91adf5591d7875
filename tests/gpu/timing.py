"""How long work takes on a device: from the first launch to the moment its last result is there."""

import statistics
import time
from collections.abc import Callable


def synchronize(device: str) -> None:
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def median_seconds(work: Callable[[], object], device: str, *, times: int, warm_up: int = 3) -> float:
    """The first runs load kernels, choose algorithms and fill the allocators' caches, and are not counted."""
    for _ in range(warm_up):
        work()
    took = []
    for _ in range(times):
        synchronize(device)
        began = time.perf_counter()
        work()
        synchronize(device)
        took.append(time.perf_counter() - began)
    return statistics.median(took)
