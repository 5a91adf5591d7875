"""What a batch costs on this machine, by its shape: the encoder's real engines, one lane of one thread, in milliseconds of CPU time.

`python -m tests.benchmarks.costs` measures for some minutes and writes `costs.json` beside this file, with the machine's CPU flags. It is
CPU time, and the least of some rounds, so other work on the machine changes little. The policy simulator (`policies.py`) reads the file.

A padded engine is measured as a table by [length, rows]. A packed one runs mixed lengths, so a model is fitted to batches of many shapes:
ms = fixed + a · tokens + b · distinct lengths (attention runs once for each) + c · sum of squared lengths; its error is in the file too.
"""

import argparse
import json
import random
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

FILE: Final = Path(__file__).with_name("costs.json")
MODEL: Final = "minilm-l6-v2"
PADDED_ENGINE: Final = ("openvino", "bfloat16")
PACKED_ENGINE: Final = ("torch", "bfloat16")
LENGTHS: Final = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
ROWS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
MOST_TOKENS: Final = 16_384  # the largest batch of any policy that is compared
ROUNDS: Final = 2
MIXED_BATCHES: Final = 60


@dataclass(frozen=True, slots=True)
class PaddedCosts:
    """`milliseconds[i][j]` of a batch of `rows[j]` rows padded to `lengths[i]` tokens; None where it was too large to be measured."""

    lengths: tuple[int, ...]
    rows: tuple[int, ...]
    milliseconds: tuple[tuple[float | None, ...], ...]

    def __call__(self, lengths: Sequence[int]) -> float:
        """Between measured shapes in a straight line; beyond the largest as the largest's cost a token."""
        return self.of(max(lengths), len(lengths))

    def of(self, length: int, rows: int) -> float:
        at, share = _between(self.lengths, length)
        return (1 - share) * self._at_length(at, rows) + share * self._at_length(at + 1, rows)

    def _at_length(self, place: int, rows: int) -> float:
        known = [(count, cost) for count, cost in zip(self.rows, self.milliseconds[place], strict=True) if cost is not None]
        if rows >= known[-1][0]:
            return known[-1][1] * rows / known[-1][0]
        at, share = _between([count for count, _ in known], rows)
        return (1 - share) * known[at][1] + share * known[at + 1][1]


@dataclass(frozen=True, slots=True)
class PackedCosts:
    """Milliseconds: of any batch, of a token, of a distinct length, of a pair of tokens that see each other."""

    fixed: float
    token: float
    distinct_length: float
    pair: float

    def __call__(self, lengths: Sequence[int]) -> float:
        return float(np.dot(_features(lengths), (self.fixed, self.token, self.distinct_length, self.pair)))


@dataclass(frozen=True, slots=True)
class Costs:
    padded: PaddedCosts
    packed: PackedCosts


def load(path: Path = FILE) -> Costs:
    stored = json.loads(path.read_text())
    padded, packed = stored["padded"], stored["packed"]
    table = tuple(tuple(row) for row in padded["milliseconds"])
    return Costs(
        PaddedCosts(tuple(padded["lengths"]), tuple(padded["rows"]), table),
        PackedCosts(packed["fixed"], packed["token"], packed["distinct_length"], packed["pair"]),
    )


def _between(grid: Sequence[int], value: int) -> tuple[int, float]:
    """The place of the grid's interval that holds the value, and how far in it lies; outside the grid, its nearest end."""
    place = min(max(bisect_left(grid, value) - 1, 0), len(grid) - 2)
    return place, min(1.0, max(0.0, (value - grid[place]) / (grid[place + 1] - grid[place])))


def _features(lengths: Sequence[int]) -> tuple[float, float, float, float]:
    return 1.0, float(sum(lengths)), float(len(set(lengths))), float(sum(length * length for length in lengths))


def measure_padded(engine: Any, rounds: int = ROUNDS) -> PaddedCosts:
    shapes = [(length, rows) for length in LENGTHS for rows in ROWS if length * rows <= MOST_TOKENS]
    found = _least(engine, [[length] * rows for length, rows in shapes], rounds)
    by_shape = dict(zip(shapes, found, strict=True))
    return PaddedCosts(LENGTHS, ROWS, tuple(tuple(by_shape.get((length, rows)) for rows in ROWS) for length in LENGTHS))


def measure_packed(engine: Any, rounds: int = ROUNDS, seed: int = 5) -> tuple[PackedCosts, dict[str, float]]:
    """And how far the fitted model is off, relatively, over the measured batches."""
    chance = random.Random(seed)
    batches = [[length] * rows for length in LENGTHS[::2] for rows in ROWS[::2] if length * rows <= 4096]
    for _ in range(MIXED_BATCHES):
        budget, longest = chance.choice((128, 512, 1024, 2048, 4096)), chance.choice((24, 96, 256, 512))
        batch: list[int] = []
        while sum(batch) < budget:
            batch.append(min(longest, max(4, int(chance.lognormvariate(3.7, 0.7)))))
        batches.append(batch)
    found = np.array(_least(engine, batches, rounds))
    features = np.array([_features(batch) for batch in batches])
    from scipy.optimize import nnls  # type: ignore[attr-defined]  # no cost is below nothing; scikit-learn brings it

    weights: NDArray[np.float64] = nnls(features / found[:, None], np.ones(len(found)))[0]
    off = np.abs(features @ weights / found - 1)
    return PackedCosts(*(float(weight) for weight in weights)), {
        "median_error": float(np.median(off)),
        "p95_error": float(np.quantile(off, 0.95)),
        "batches": float(len(batches)),
    }


def _least(engine: Any, batches: Sequence[Sequence[int]], rounds: int) -> list[float]:
    """Milliseconds of CPU time of each batch of these lengths: the least of some rounds, in turns."""
    chance = np.random.default_rng(7)
    ready = [engine.prepare([chance.integers(1000, 20_000, length, dtype=np.int32) for length in batch]) for batch in batches]
    least = [float("inf")] * len(batches)
    for _ in range(rounds + 1):  # in the first one the engine allocates, and compiles for each shape; it does not win
        for place, batch in enumerate(ready):
            least[place] = min(least[place], _cpu_milliseconds(lambda: engine.run(batch)))  # noqa: B023
    return least


def _cpu_milliseconds(run: Callable[[], object]) -> float:
    """Of the fastest in a row of runs, more of them where one is short."""
    best, spent = float("inf"), 0.0
    while spent < 0.008:
        began = time.process_time()
        run()
        took = time.process_time() - began
        best, spent = min(best, took), spent + max(took, 1e-4)
    return best * 1000


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.costs", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--report", type=Path, default=FILE)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args(arguments)
    from db.settings import load as load_settings
    from tests.benchmarks.machine import describe_machine
    from workers.engines.calibration.encoder_candidates import EncoderCandidates
    from workers.machine.cpu import cpu_flags
    from workers.models import registry
    from workers.models.provision import ensure
    from workers.settings import WorkerSettings

    card = registry.get(MODEL)
    candidates = EncoderCandidates(card, ensure(card, load_settings(WorkerSettings).home), cpu_flags())

    def engine(named: Any) -> Any:
        found = candidates.find(*named)
        if found is None or found.refused is not None:
            raise SystemExit(f"{' '.join(named)} does not run here: nothing was measured.")
        return found.load(1, 1)

    packed, errors = measure_packed(engine(PACKED_ENGINE), options.rounds)
    padded = measure_padded(engine(PADDED_ENGINE), options.rounds)
    report = {
        "model": MODEL,
        "unit": "milliseconds of CPU time, one lane of one thread",
        "machine": describe_machine(),
        "packed": {
            "engine": " ".join(PACKED_ENGINE),
            "fixed": packed.fixed,
            "token": packed.token,
            "distinct_length": packed.distinct_length,
            "pair": packed.pair,
            **errors,
        },
        "padded": {
            "engine": " ".join(PADDED_ENGINE),
            "lengths": padded.lengths,
            "rows": padded.rows,
            "milliseconds": [[None if cost is None else round(cost, 4) for cost in row] for row in padded.milliseconds],
        },
    }
    options.report.write_text(json.dumps(report, indent=1) + "\n")
    print(f"packed: {report['packed']}")
    for length, row in zip(padded.lengths, padded.milliseconds, strict=True):
        print(f"padded {length:4d} tokens:", " ".join("      -" if cost is None else f"{cost:7.2f}" for cost in row))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
