"""Attention over a whole packed batch in one call, against attention length by length: the same answers, and not slower."""

import math
import random
from itertools import pairwise
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tests.gpu.finding import CannotRun, Finding, Setting
from tests.gpu.models import MEAN_TOKENS, POSITIONS, SIGMA, encoder, make, random_ids
from tests.gpu.timing import median_seconds
from workers.engines.contract.plan import GPU_ENCODER
from workers.engines.encoders.gpu_batches import attend, stage, varlen_attention
from workers.engines.encoders.packing import pack

CLOSE: Final = {"float16": 0.01, "bfloat16": 0.05}
FORMATS: Final = tuple(CLOSE)


def run(setting: Setting) -> Finding:
    found = Finding()
    device = torch.device(setting.device)
    sizes = ("minilm-size", "bert-base") if setting.on_gpu else ("tiny",)
    lengths = _lengths(GPU_ENCODER.budget_tokens if setting.on_gpu else 600)
    found.figures["batch"] = f"{len(lengths)} sequences of {len(set(lengths))} lengths, {sum(lengths)} tokens"
    for number_format in FORMATS if setting.on_gpu else ("bfloat16",):
        dtype = getattr(torch, number_format)
        attention = varlen_attention(device, dtype, 64) if setting.on_gpu else written_out
        if attention is None:
            raise CannotRun("this torch or this GPU has no variable-length FlashAttention (torch 2.10 and compute capability 8.0 have)")
        _kernel(found, device, dtype, attention, lengths[:64], number_format)
        for size in sizes:
            _whole(found, setting, size, number_format, attention, lengths)
    return found


def written_out(query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, _key_bounds: Tensor, _longest: int, _: int) -> Tensor:
    """What the kernel computes, sequence by sequence: [T, heads, width]."""
    seen = torch.empty_like(query)
    edges = bounds.tolist()
    for first, end in pairwise(edges):
        asked, known, told = (part[first:end].transpose(0, 1) for part in (query, key, value))
        seen[first:end] = functional.scaled_dot_product_attention(asked, known, told).transpose(0, 1)
    return seen


def _kernel(found: Finding, device: torch.device, dtype: torch.dtype, attention: Any, lengths: list[int], name: str) -> None:
    """Attention alone, on random numbers, against the same in fp32."""
    staged = stage(pack(random_ids(lengths)), device, None)
    heads, width = 12, 64
    product = torch.randn(sum(lengths), 3 * heads * width, device=device, generator=torch.Generator(device).manual_seed(0))
    with torch.inference_mode():
        expected = attend(written_out, product, staged, heads)
        answers = attend(attention, product.to(dtype), staged, heads)
    found.at_most(f"attention alone in {name}: farthest from fp32", float((answers.float() - expected).abs().max()), CLOSE[name])


def _whole(found: Finding, setting: Setting, size: str, number_format: str, attention: Any, lengths: list[int]) -> None:
    engine = encoder(make(size, setting.folder), setting.device, number_format)
    batch = random_ids(lengths)
    staged = engine.prepare(batch)
    took, answers = {}, {}
    for way, chosen in (("one call", attention), ("by length", None)):
        engine._varlen = chosen
        answers[way] = engine.run(staged)
        took[way] = median_seconds(lambda: engine.run(staged), setting.device, times=20 if setting.on_gpu else 2)
    off = float(np.abs(answers["one call"] - answers["by length"]).max())
    found.at_most(f"{size} in {number_format}: the two ways' farthest difference", off, CLOSE[number_format])
    faster = took["by length"] / took["one call"]
    found.figures[f"{size}_{number_format}_times_faster"] = round(faster, 2)
    found.figures[f"{size}_{number_format}_tokens_per_second"] = round(sum(lengths) / took["one call"])
    if setting.on_gpu:
        found.at_least(f"{size} in {number_format}: one call, times as fast", faster, 1.0)


def _lengths(tokens: int) -> list[int]:
    chance = random.Random(5)
    made: list[int] = []
    while sum(made) < tokens:
        made.append(min(POSITIONS, max(3, round(chance.lognormvariate(math.log(MEAN_TOKENS) - SIGMA**2 / 2, SIGMA)))))
    return made
