"""A GPU that is really full: what a batch too large for it comes to, and what is left afterwards."""

from typing import Any, Final

import numpy as np
import torch

from tests.gpu.finding import Finding, Setting
from tests.gpu.models import encoder, make, random_ids
from workers.arrays import Ids, Vectors
from workers.batches.batcher import Batcher
from workers.batches.outcomes import BatchReport, FailedRow
from workers.batches.policy import Policy
from workers.engines.contract.torch_errors import translated

FREE_BYTES: Final = 2 << 30  # left to the model; the rest of the card is taken with one plain allocation
ROW_TOKENS: Final = 256
TOO_MANY_TOKENS: Final = 512 * 1024  # of BERT-base in half precision some 9 GB of activations
CPU_TOKENS: Final = 4_096  # where the CPU's stand-in for a full card gives up
CLOSE: Final = 0.02
KEPT_BYTES: Final = 64 << 20  # what may still be held afterwards: workspaces of the libraries


class FullBeyond:
    """On a CPU, in place of a full card: raises torch's own error for a batch of too many tokens."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.prepare = engine.prepare
        self.raised = 0

    def run(self, staged: Any) -> Vectors:
        with translated():
            if len(staged.packed.ids) > CPU_TOKENS:
                self.raised += 1
                raise torch.OutOfMemoryError("a stand-in for a full card")
            return self._engine.run(staged)  # type: ignore[no-any-return]


def run(setting: Setting) -> Finding:
    found = Finding()
    engine = encoder(make("bert-base" if setting.on_gpu else "tiny", setting.folder), setting.device, "bfloat16")
    too_many = TOO_MANY_TOKENS if setting.on_gpu else 4 * CPU_TOKENS
    rows = random_ids([ROW_TOKENS] * (3 * too_many // ROW_TOKENS))
    sample = rows[:: len(rows) // 32]
    expected = np.concatenate([engine.run(engine.prepare([row])) for row in sample])
    runs: Any = engine if setting.on_gpu else FullBeyond(engine)
    reports: list[BatchReport] = []
    batcher: Batcher[Ids, Any, Vectors] = Batcher(
        runs.prepare,
        lambda prepared: list(runs.run(prepared)),
        name="memory",
        lanes=1,
        policy=Policy(budget_tokens=too_many, padded=False, max_rows=len(rows), window_rows=len(rows)),
        observe=reports.append,
    )
    try:
        ballast = _fill() if setting.on_gpu else None
        before = _allocated(setting)
        served = batcher.submit(rows, [len(row) for row in rows]).result()
        kept = _allocated(setting) - before
        times = int(torch.cuda.memory_stats()["num_ooms"]) if setting.on_gpu else runs.raised
        smallest = min(report.budget_tokens for report in reports)
        del ballast
        if setting.on_gpu:
            torch.cuda.empty_cache()
        reports.clear()
        few = rows[: too_many // ROW_TOKENS // 16]
        for _ in range(24):  # the budget grows by a sixteenth a batch
            batcher.submit(few, [len(row) for row in few]).result()
        grown = reports[-1].budget_tokens
    finally:
        batcher.stop(drain=False)
    found.at_least("times the device was out of memory", times, 1)
    lost = sum(isinstance(answer, FailedRow) for answer in served.answers)
    found.check("no row is lost", len(served.answers) == len(rows) and lost == 0, f"{lost} of {len(rows)}")
    answers = np.stack([answer for answer in served.answers[:: len(rows) // 32] if not isinstance(answer, FailedRow)])
    found.at_most("rows answered as alone: farthest", float(np.abs(answers - expected).max()), CLOSE)
    found.check("the budget was halved", smallest <= too_many // 2, f"{smallest} of {too_many} tokens")
    found.check("it grows back", grown > smallest, f"{grown} tokens")
    if setting.on_gpu:
        found.check("nothing of the failed batches is kept", kept <= KEPT_BYTES, f"{kept >> 20} MiB")
    found.figures |= {"out_of_memory": times, "budget_tokens": too_many, "smallest_budget_tokens": smallest, "rows": len(rows)}
    return found


def _fill() -> torch.Tensor:
    """Takes all memory of the card but two gigabytes."""
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    return torch.empty(max(0, free - FREE_BYTES), dtype=torch.uint8, device="cuda")


def _allocated(setting: Setting) -> int:
    return int(torch.cuda.memory_allocated()) if setting.on_gpu else 0
