"""How a model is run on this machine: engine, number format, lanes, batch policy. What a calibration chose, or what facts alone say.

CPU: one lane a core with one thread each (measured for the encoder: two lanes of one thread gave 34 % more than one lane of two). bf16
only where the CPU multiplies it in hardware: without avx512_bf16 or amx_bf16 it is several times slower than fp32. GPU: one lane, bf16.
This is where a model begins; on a CPU it is calibrated afterwards.
"""

from dataclasses import dataclass, replace
from typing import Literal

from workers.batches.policy import Policy
from workers.machine.cpu import BF16_FLAGS

Format = Literal["float32", "bfloat16"]
NumberFormat = Literal["float32", "bfloat16", "int8"]
EngineName = Literal["torch", "openvino", "onnx", "transformers"]
# What can be asked for: auto leaves it to calibration, exact is float32.
EngineChoice = Literal["auto", "torch", "openvino", "onnx", "transformers"]
DtypeChoice = Literal["auto", "float32", "bfloat16", "int8", "exact"]

# Encoder on a CPU: small batches keep the activations in a core's L2 cache.
CPU_ENCODER = Policy(budget_tokens=1024, padded=False, max_rows=512, window_rows=512)
CPU_PADDED_ENCODER = replace(CPU_ENCODER, padded=True)
GPU_ENCODER = Policy(budget_tokens=16_384, padded=False, max_rows=4096, window_rows=4096)
# Decoder: the budget counts prompt and new tokens of the rows that run together on a lane, so it bounds the key-value cache; `max_rows`
# is a lane's slots.
CPU_DECODER = Policy(budget_tokens=32_768, padded=False, max_rows=32)
GPU_DECODER = Policy(budget_tokens=262_144, padded=False, max_rows=256)


@dataclass(frozen=True, slots=True)
class Plan:
    device: str  # "cpu" or "cuda"
    format: NumberFormat
    lanes: int
    policy: Policy
    engine: EngineName = "torch"
    threads: int = 1  # of each lane

    def describe(self) -> str:
        """For logs and for people."""
        return (
            f"{self.engine} {self.format} on {self.device}, {self.lanes} lane(s) of {self.threads} thread(s), "
            f"{self.policy.budget_tokens} tokens a batch"
        )


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
            "bfloat16" if (_quick_bf16(cpu_flags) if kind == "encoder" else cpu_flags & BF16_FLAGS) else "float32",
            cores,
            CPU_ENCODER if kind == "encoder" else CPU_DECODER,
        )
    else:
        made = Plan("cuda", "bfloat16", 1, GPU_ENCODER if kind == "encoder" else GPU_DECODER)
    return overridden(made, lanes=lanes, budget_tokens=budget_tokens)


def _quick_bf16(cpu_flags: frozenset[str]) -> bool:
    """Whether an encoder is likely faster in bf16: with AMX, and where AVX-512 has it on a CPU like Zen 4, which knows no AVX-VNNI. On an
    Intel CPU with the latter and without AMX, bf16 ran at 0.62 of fp32's speed (torch 2.13, MiniLM, both on oneDNN)."""
    return "amx_bf16" in cpu_flags or ("avx512_bf16" in cpu_flags and "avx_vnni" not in cpu_flags)


def overridden(made: Plan, *, lanes: int | None, budget_tokens: int | None) -> Plan:
    if lanes is not None:
        made = replace(made, lanes=lanes)
    if budget_tokens is not None:
        made = replace(made, policy=replace(made.policy, budget_tokens=budget_tokens))
    return made
