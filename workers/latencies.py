"""How long rows took to their first token and between two, as counts by bucket: those of shards add up, where medians do not. Pure.

A bucket ends at √2 times the end of the one before it, and the first at a millisecond, so that what is read out of them is right within a
fifth.
"""

import math
from collections.abc import Mapping
from typing import Final, Literal

Kind = Literal["first_token", "next_token"]

LAST: Final = 48  # ends at 4.6 hours; what takes longer is in it too
FIRST_SECONDS: Final = 0.001


def bucket_of(seconds: float) -> int:
    return 0 if seconds <= FIRST_SECONDS else min(LAST, math.ceil(2 * math.log2(seconds / FIRST_SECONDS)))


def metric_of(kind: Kind, seconds: float) -> str:
    """``first_token_bucket_12``: the name under which such a row counts in a job's metrics."""
    return f"{kind}_bucket_{bucket_of(seconds)}"


def quantile(metrics: Mapping[str, float], kind: Kind, share: float) -> float | None:
    """The seconds within which that share of the rows was, from 0 to 1; None where none was counted."""
    counts = [metrics.get(f"{kind}_bucket_{bucket}", 0.0) for bucket in range(LAST + 1)]
    left = share * sum(counts)
    for bucket, count in enumerate(counts):
        if count > 0 and left <= count:
            return float(FIRST_SECONDS * 2 ** ((bucket - 1 + max(0.0, left) / count) / 2))
        left -= count
    return None
