"""`python -m tests.benchmarks.forecasts`: what ten mixed jobs are promised when they are made, against when they are done.

Labels, vectors and texts, small and large, handed in one after the other while those before still wait; before them two of each kind ran,
so that its speed is known. Goal: half of them end within a quarter of the time that was promised. Ends with 1 where it is missed.
"""

import argparse
import io
import random
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from api.client import Upload
from api.wire import Batch
from tests.benchmarks.mill import ENCODER, Mill, own_environment, running, wait_ended

DECODER: Final = "gemma3-270m"
GOAL: Final = 0.25
APART_SECONDS: Final = 2.0
LIMIT_SECONDS: Final = 1_800.0
_TEXT: Final = "the parcel came late and open the invoice names another street nobody has answered since the second of May"
WORDS: Final = _TEXT.split()


@dataclass(frozen=True, slots=True)
class Kind:
    """``defaults`` of a job; ``words`` of a text, about; ``rows`` of one of size 1."""

    endpoint: str
    defaults: dict[str, object]
    words: int
    rows: int


KINDS: Final = (
    Kind("/v1/classifications", {"model": ENCODER, "labels": ["late", "lost", "paid", "praise"]}, 40, 800),
    Kind("/v1/embeddings", {"model": ENCODER, "encoding_format": "float"}, 40, 800),
    Kind("/v1/completions", {"model": DECODER, "max_tokens": 32}, 20, 24),
)
SIZES: Final = (1, 3, 1, 2, 4, 1, 2, 1, 3, 2)


def make(mill: Mill, kind: Kind, size: float, drawn: random.Random) -> Batch:
    rows = max(8, round(kind.rows * size))
    texts = (" ".join(drawn.choices(WORDS, k=drawn.randint(kind.words // 2, 2 * kind.words))) for _ in range(rows))
    lines = b"".join(msgspec.json.encode({"input": text}) + b"\n" for text in texts)
    file = mill.client.upload(Upload(io.BytesIO(lines), "rows.jsonl", "rows", {"format": "jsonl"}, len(lines)))
    return mill.client.create_batch(file.id, kind.endpoint, defaults=kind.defaults)


def error_of(made: Batch, ended: Batch) -> float | None:
    """How far the promise was off, of what it took; None where nothing was promised."""
    promised, done = made.textmill.promised_at, ended.completed_at
    if promised is None or done is None:
        return None
    return abs(promised - done) / max(1, done - made.created_at)


def measure(mill: Mill, scale: float, seed: int) -> list[float]:
    """Prints each job, and returns the errors. Raises AssertionError where a job was promised nothing."""
    drawn = random.Random(seed)
    for kind in KINDS:
        for size in (0.5, 1.0):  # the first loads the model, and calibration may still be beside it
            wait_ended(mill.client, make(mill, kind, size * scale, drawn), limit_seconds=LIMIT_SECONDS)
    made = []
    for number, size in enumerate(SIZES):
        made.append((kind := KINDS[number % len(KINDS)], make(mill, kind, size * scale, drawn)))
        time.sleep(APART_SECONDS * drawn.random())
    errors = []
    for kind, batch in made:
        ended = wait_ended(mill.client, batch, limit_seconds=LIMIT_SECONDS)
        error = error_of(batch, ended)
        assert error is not None, f"nothing was promised: {batch.textmill.unforeseen}"
        errors.append(error)
        promised, took = (batch.textmill.promised_at or 0) - batch.created_at, (ended.completed_at or 0) - batch.created_at
        print(f"{kind.endpoint:22} {batch.counts.total:6,} rows  promised {promised:4} s  took {took:4} s  {error:6.1%} off", flush=True)
    return errors


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.forecasts", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="rows of each job, as a multiple (1.0)")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    own_environment()
    with tempfile.TemporaryDirectory(prefix="textmill-forecasts-") as folder, running(Path(folder) / "home", {}) as mill:
        errors = measure(mill, arguments.scale, arguments.seed)
    median = statistics.median(errors)
    print(f"forecast of a job's end at its creation, {len(errors)} mixed jobs: median error {median:.1%}, goal ≤ {GOAL:.0%}: ", end="")
    print("pass" if median <= GOAL else "miss")
    return int(median > GOAL)


if __name__ == "__main__":
    sys.exit(main())
