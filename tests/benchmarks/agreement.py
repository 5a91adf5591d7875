"""Whether the chosen engine says what fp32 says: labels that are the same, and how far the probabilities are apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from api.demo.corpus import LABELS
from tests.benchmarks.bare import BareLoop


@dataclass(frozen=True, slots=True)
class Agreement:
    """``same``: share of texts with the same label. ``max_difference``: the greatest |Δp| of any text and label."""

    texts: int
    same: float
    max_difference: float
    chosen: str
    exact: str


def measure_agreement(bare: BareLoop, texts: Sequence[str]) -> Agreement:
    """``bare`` runs the chosen engine; fp32 runs in a process of its own."""
    chosen = cast("dict[str, Any]", bare.run(texts, LABELS, answers=True))
    with BareLoop(exact=True) as loop:
        exact = cast("dict[str, Any]", loop.run(texts, LABELS, answers=True))
    return compare(chosen, exact)


def compare(chosen: dict[str, Any], exact: dict[str, Any]) -> Agreement:
    """A text that failed in one of them agrees with nothing."""
    pairs = list(zip(chosen["labels"], exact["labels"], strict=True))
    assert pairs, "there is nothing to compare"
    same = sum(mine is not None and mine == yours for mine, yours in pairs)
    apart = [
        abs(p - q)
        for mine, yours in zip(chosen["scores"], exact["scores"], strict=True)
        for p, q in (zip(mine, yours, strict=True) if mine is not None and yours is not None else [(0.0, 1.0)])
    ]
    return Agreement(len(pairs), same / len(pairs), max(apart), chosen["model_version"], exact["model_version"])
