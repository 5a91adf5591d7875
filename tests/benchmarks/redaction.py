"""How fast one process masks texts of some 300 characters: `python -m tests.benchmarks.redaction` prints rows a second of CPU time, by
kind too, and recall and precision on texts whose spans are known."""

import time
from collections import Counter
from collections.abc import Collection
from typing import Final

from tests.unit.workers.redaction.generated import SENSITIVE, texts
from workers.redaction.finding import find
from workers.redaction.masking import Masker
from workers.redaction.span import KINDS, Kind

ROWS: Final = 20_000
SEED: Final = 29
GOAL_ROWS_A_SECOND: Final = 5_000


def rows_a_second(rows: list[str], kinds: Collection[Kind]) -> float:
    masker = Masker(bytes(32), kinds)
    began = time.process_time()
    for row in rows:
        masker.mask(row)
    return len(rows) / (time.process_time() - began)


def main() -> None:
    generated = list(texts(ROWS, SEED))
    rows = [one.text for one in generated]
    known: Counter[str] = Counter()
    told: Counter[str] = Counter()
    hit: Counter[str] = Counter()
    for one in generated:
        found = {tuple(span) for span in find(one.text)}
        known.update(kind for kind, _, _ in one.known)
        told.update(str(span[0]) for span in found)
        hit.update(span[0] for span in one.known if span in found)
    characters = sum(map(len, rows)) / len(rows)
    print(f"all kinds: {rows_a_second(rows, KINDS):,.0f} rows/s of {characters:.0f} characters (goal {GOAL_ROWS_A_SECOND:,})")
    for kind in KINDS:
        speed = f"{rows_a_second(rows, [kind]):>9,.0f} rows/s"
        if kind in SENSITIVE:
            speed += f"  recall {hit[kind] / known[kind]:.4f}  precision {hit[kind] / told[kind]:.4f}  of {known[kind]:,}"
        print(f"{kind:>12} {speed}")


if __name__ == "__main__":
    main()
