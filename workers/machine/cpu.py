"""What the CPU can do: the feature flags that decide which arithmetic is fast."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final


def all_cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Of the first CPU; empty where the file does not exist."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return frozenset()
    flags = next((line.partition(":")[2] for line in lines if line.startswith(("flags", "Features"))), "")
    return frozenset(flags.split())


BF16_FLAGS: Final = frozenset({"avx512_bf16", "amx_bf16"})
TELLING: Final = frozenset(
    {"avx2", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni", "amx_bf16", "amx_int8", "amx_tile", "asimd", "bf16", "i8mm"}
)


# Variables that forbid torch and oneDNN instructions which the CPU has, and what is left at each of their values.
CAPS: Final = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")


CAPPED_TO_AVX2: Final = frozenset({"default", "sse41", "avx", "avx2", "avx2_vnni", "avx2_vnni_2"})


def cpu_flags(environment: Mapping[str, str] = os.environ) -> frozenset[str]:
    """Of the first CPU in /proc/cpuinfo, less what the environment forbids; empty where that file does not exist, which plans fp32."""
    flags = all_cpu_flags()
    if any(environment.get(name, "").lower() in CAPPED_TO_AVX2 for name in CAPS):
        flags = frozenset(flag for flag in flags if not flag.startswith(("avx512", "amx")))
    return flags


def telling_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Of the CPU's own, those that decide which arithmetic is fast: for people."""
    return all_cpu_flags(cpuinfo) & TELLING
