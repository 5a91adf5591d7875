"""Whether a batch really goes to the GPU beside the work there, and whether what is computed from it is that batch and no other."""

import threading
from time import perf_counter
from typing import Any, Final

import numpy as np
import torch

from tests.gpu.finding import Finding, Setting
from tests.gpu.models import encoder, make, random_ids
from workers.engines.encoders.gpu_batches import Staged, copy_stream, stage
from workers.engines.encoders.gpu_batches import _pinned as pinned
from workers.engines.encoders.packing import Packed, pack

BUSY_SECONDS: Final = 0.3  # of products that are queued before the copy: a copy takes a millisecond
MATRIX: Final = 4096


def run(setting: Setting) -> Finding:
    found = Finding()
    device = torch.device(setting.device)
    large = pack(random_ids([256] * (8_192 if setting.on_gpu else 8)))
    copies = copy_stream(device)
    found.check("there is a stream for copies on a GPU, and none on a CPU", (copies is not None) == setting.on_gpu)
    staged = stage(large, device, copies)
    staged.wait()
    found.check("what arrives is the batch", _same(staged, large))
    if setting.on_gpu:
        found.check("it goes through pinned memory", pinned(large.ids).is_pinned())
        _overlap(found, device, large)
    _ahead(found, setting)
    return found


def _same(staged: Staged, packed: Packed) -> bool:
    lengths = packed.lengths
    return (
        np.array_equal(staged.ids.cpu().numpy(), packed.ids)
        and np.array_equal(staged.positions.cpu().numpy(), packed.positions)
        and np.array_equal(staged.bounds.cpu().numpy(), np.concatenate([[0], np.cumsum(lengths)]))
        and np.array_equal(staged.owners.cpu().numpy(), np.repeat(np.arange(len(lengths)), lengths))
    )


def _overlap(found: Finding, device: torch.device, packed: Packed) -> None:
    """Products are queued for a third of a second; then a batch is staged. It must have arrived before the products have ended."""
    copies = copy_stream(device)
    for _ in range(3):  # pinned and device memory are taken from the caches from here on; taking new memory may wait for the device
        stage(packed, device, copies)
    left = torch.randn(MATRIX, MATRIX, device=device, dtype=torch.bfloat16)
    product = torch.empty_like(left)
    torch.mm(left, left, out=product)
    torch.cuda.synchronize()
    began = perf_counter()
    for _ in range(10):
        torch.mm(left, left, out=product)
    torch.cuda.synchronize()
    each = (perf_counter() - began) / 10
    computed: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
    for _ in range(max(10, int(BUSY_SECONDS / each))):
        torch.mm(left, left, out=product)
    computed.record()
    began = perf_counter()
    staged = stage(packed, device, copies)
    returned = perf_counter() - began
    assert staged.arrived is not None
    staged.arrived.synchronize()
    arrived = perf_counter() - began
    beside = not computed.query()
    torch.cuda.synchronize()
    done = perf_counter() - began
    found.check(
        "the batch arrived while the products before it still ran", beside, f"arrived after {arrived * 1e3:.1f} ms of {done * 1e3:.0f}"
    )
    found.check("the host did not wait for the device", returned < done / 2, f"returned after {returned * 1e3:.1f} ms")
    size = 4 * (3 * len(packed.ids) + len(packed.lengths) + 1)
    found.figures |= {"batch_bytes": size, "copied_after_ms": round(arrived * 1e3, 2), "staged_in_ms": round(returned * 1e3, 2)}


def _ahead(found: Finding, setting: Setting) -> None:
    """As a feeder does: another thread stages one batch ahead, while this one runs the batch before. Memory is used again and again, so a
    copy that came too early or too late would change an answer."""
    engine = encoder(make("minilm-size" if setting.on_gpu else "tiny", setting.folder), setting.device, "bfloat16")
    drawn = np.random.default_rng(3)
    batches = [random_ids([int(length) for length in drawn.integers(3, 200, 64)], seed=at) for at in range(100 if setting.on_gpu else 5)]

    def staged_and_there(batch: list[np.ndarray]) -> Staged:
        staged: Staged = engine.prepare(batch)
        if setting.on_gpu:
            torch.cuda.synchronize()
        return staged

    expected = [engine.run(staged_and_there(batch)) for batch in batches]
    ready: list[Staged] = []
    may_stage, is_staged = threading.Semaphore(2), threading.Semaphore(0)

    def feed() -> None:
        for batch in batches:
            may_stage.acquire()
            ready.append(engine.prepare(batch))
            is_staged.release()

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    off = 0.0
    for answers in expected:
        is_staged.acquire()
        off = max(off, float(np.abs(engine.run(ready.pop(0)) - answers).max()))
        may_stage.release()
    feeder.join()
    found.at_most(f"{len(batches)} batches staged ahead: farthest from the same ones alone", off, 0.01)
