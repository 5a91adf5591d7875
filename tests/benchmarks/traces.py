"""Lengths of texts in tokens, seeded, as the benchmark's workloads have them. No text, only how long it is."""

import random
from collections.abc import Callable
from typing import Final

MOST_TOKENS: Final = 512


def _short(chance: random.Random) -> int:
    return chance.randint(8, 24)


def _long(chance: random.Random) -> int:
    return chance.randint(256, 512)


def _mixed(chance: random.Random) -> int:
    return round(chance.lognormvariate(3.7, 0.65))  # mean 50


def _heavy_tail(chance: random.Random) -> int:
    return 512 if chance.random() < 0.05 else 16


def _articles(chance: random.Random) -> int:
    return min(256, round(chance.lognormvariate(6.05, 0.5)))  # news of some 470 tokens, cut at what MiniLM takes


TRACES: Final[dict[str, tuple[Callable[[random.Random], int], int]]] = {
    "C1 short 8-24": (_short, 8000),
    "C2 long 256-512": (_long, 600),
    "C3 lognormal, mean 50": (_mixed, 4000),
    "C4 95 % 16, 5 % 512": (_heavy_tail, 4000),
    "BBC-like, at most 256": (_articles, 1500),
}


def trace(name: str, *, seed: int = 1, rows: int | None = None) -> list[int]:
    """The lengths of the workload's rows, in the order they are handed in. The same arguments give the same lengths."""
    draw, count = TRACES[name]
    chance = random.Random(f"{name} {seed}")
    return [min(MOST_TOKENS, max(4, draw(chance))) for _ in range(rows or count)]
