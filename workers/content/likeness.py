"""How similar two texts are: by the runs of five characters that they share (Jaccard's index), exactly or as MinHash estimates it.

Broder, "On the resemblance and containment of documents", 1997. Its permutations are multiply-shift hashes (Dietzfelbinger, 1996) of each
run's CRC.
"""

import zlib
from functools import cache
from typing import Any, Final

from workers.content.checks import bare

RUN_CHARS: Final = 5
HASHES: Final = 256  # the estimate is off by 0.03 at a similarity of 0.8
MAX_CHARS: Final = 200_000  # of a longer text the beginning is compared


def runs(text: str) -> set[str]:
    """A text that is shorter than one is its own."""
    plain = bare(text)[:MAX_CHARS]
    return {plain[at : at + RUN_CHARS] for at in range(max(1, len(plain) - RUN_CHARS + 1))}


def similarity(left: set[str], right: set[str]) -> float:
    return len(left & right) / len(left | right)


class Remembered:
    """Texts by their signatures: 1 kB each."""

    def __init__(self) -> None:
        self._signatures: Any = None
        self._count = 0

    def most_similar(self, signature: Any) -> float:
        """To how much."""
        if not self._count:
            return 0.0
        return float((self._signatures[: self._count] == signature).mean(axis=1).max())

    def add(self, signature: Any) -> None:
        import numpy as np

        if self._signatures is None:
            self._signatures = np.empty((64, HASHES), dtype=np.uint32)
        if self._count == len(self._signatures):
            self._signatures = np.concatenate([self._signatures, np.empty_like(self._signatures)])
        self._signatures[self._count] = signature
        self._count += 1


def signature_of(text: str) -> Any:
    """An array of HASHES numbers of 32 bits."""
    import numpy as np

    factors, terms = _hashes()
    values = np.fromiter((zlib.crc32(run.encode("utf-8", "surrogatepass")) for run in runs(text)), dtype=np.uint64)
    least = np.full(HASHES, np.iinfo(np.uint64).max, dtype=np.uint64)
    for part in np.array_split(values, -(-len(values) // 4_096)):  # 8 MB at once
        least = np.minimum(least, (factors[:, None] * part[None, :] + terms[:, None]).min(axis=1))
    return (least >> np.uint64(32)).astype(np.uint32)


@cache
def _hashes() -> tuple[Any, Any]:
    import numpy as np

    chance = np.random.default_rng(1997)
    factors, terms = chance.integers(0, 2**64, (2, HASHES), dtype=np.uint64)
    return factors | np.uint64(1), terms
