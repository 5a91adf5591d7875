"""How a model is run on this machine: device, number format, lanes, batch policy. Decided from facts, before any model is loaded.

CPU: one lane a core with one thread each (measured for the encoder: two lanes of one thread gave 34 % more than one lane of two). bf16
only where the CPU multiplies it in hardware: without avx512_bf16 or amx_bf16 it is several times slower than fp32. GPU: one lane, bf16.
"""

import os
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

from workers.batching import Policy

Format = Literal["float32", "bfloat16"]
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})

# Encoder on a CPU: small batches keep the activations in a core's L2 cache.
CPU_ENCODER = Policy(budget_tokens=1024, padded=False, max_rows=512, window_rows=512)
GPU_ENCODER = Policy(budget_tokens=16_384, padded=False, max_rows=4096, window_rows=4096)
# Decoder: the budget counts prompt and new tokens, times rows, so it bounds the key-value cache.
CPU_DECODER = Policy(budget_tokens=8_192, padded=True, max_rows=32, window_rows=256)
GPU_DECODER = Policy(budget_tokens=262_144, padded=True, max_rows=256, window_rows=2048)


@dataclass(frozen=True, slots=True)
class Plan:
    device: str  # "cpu" or "cuda"
    format: Format
    lanes: int
    policy: Policy


def plan(
    kind: Literal["encoder", "decoder"],
    *,
    device: str,
    cpu_flags: frozenset[str],
    cores: int,
    lanes: int | None = None,
    budget_tokens: int | None = None,
) -> Plan:
    """`lanes` and `budget_tokens` override what suits the device."""
    if device == "cpu":
        made = Plan(
            "cpu",
            "bfloat16" if cpu_flags & BF16_FLAGS else "float32",
            cores,
            CPU_ENCODER if kind == "encoder" else CPU_DECODER,
        )
    else:
        made = Plan("cuda", "bfloat16", 1, GPU_ENCODER if kind == "encoder" else GPU_DECODER)
    if lanes is not None:
        made = replace(made, lanes=lanes)
    if budget_tokens is not None:
        made = replace(made, policy=replace(made.policy, budget_tokens=budget_tokens))
    return made


@cache
def cpu_flags() -> frozenset[str]:
    """Of the first CPU in /proc/cpuinfo; empty where that file does not exist, which plans fp32."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return next((frozenset(line.split(":", 1)[1].split()) for line in lines if line.startswith("flags")), frozenset())


def cores() -> int:
    """CPUs this process may use."""
    return len(os.sched_getaffinity(0))
