"""Batching policies on paper: ours and the known ones over the same length traces and a measured cost table. No model runs, no clock.

`python -m tests.benchmarks.policies [--report FILE]` prints one table for each policy, trace and engine: total time, padding waste, and how
long 99 % of the rows wait at most. The world is a worker's: two lanes, and four shards in flight, each handing in a chunk of rows and the
next when the last of it is answered. A free lane asks the policy for a batch; how long that takes comes from `costs.json` (`costs.py`).
"""

import argparse
import heapq
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tests.benchmarks import costs
from tests.benchmarks.contenders import PACKED, PADDED, Contender, Cost
from tests.benchmarks.traces import TRACES, trace

LANES: Final = 2
SHARDS: Final = 4
CHUNK_ROWS: Final = 256
WITHIN: Final = 1.02  # of the best total time: what counts as being the best


@dataclass(frozen=True, slots=True)
class Outcome:
    """`padding` is the share of computed tokens that no row asked for. `p99_delay_ms`: from when a row's chunk was handed in."""

    engine: str
    policy: str
    trace: str
    total_ms: float
    padding: float
    p99_delay_ms: float
    batches: int
    busy: float  # share of the lanes' time


def simulate(
    lengths: Sequence[int],
    contender: Contender,
    cost: Cost,
    *,
    lanes: int = LANES,
    shards: int = SHARDS,
    chunk_rows: int = CHUNK_ROWS,
) -> tuple[float, list[float], list[list[int]]]:
    """Returns the total and every row's delay in milliseconds, and the batches as indices into `lengths`, in the order they started."""
    chunks = [range(first, min(first + chunk_rows, len(lengths))) for first in range(0, len(lengths), chunk_rows)]
    chunk_of = [at for at, chunk in enumerate(chunks) for _ in chunk]
    open_rows = [len(chunk) for chunk in chunks]
    came, ends = [0.0] * len(chunks), [0.0] * len(chunks)
    delays, batches = [0.0] * len(lengths), []
    handed_in = min(shards, len(chunks))
    arrivals = [(0.0, at) for at in range(handed_in)]
    free = [(0.0, lane) for lane in range(lanes)]
    done = 0
    while done < len(lengths):
        now, lane = heapq.heappop(free)
        while arrivals and arrivals[0][0] <= now:
            at, chunk = heapq.heappop(arrivals)
            came[chunk] = at
            contender.add([(lengths[row], row) for row in chunks[chunk]])
        batch = contender.next_batch()
        if not batch:  # nothing waits: the lane sleeps until the next chunk comes
            heapq.heappush(free, (arrivals[0][0], lane))
            continue
        took = cost([length for length, _ in batch])
        end = now + took
        contender.ran(took)
        heapq.heappush(free, (end, lane))
        batches.append([row for _, row in batch])
        done += len(batch)
        for _, row in batch:
            chunk = chunk_of[row]
            delays[row] = end - came[chunk]
            open_rows[chunk] -= 1
            ends[chunk] = max(ends[chunk], end)
            if open_rows[chunk] == 0 and handed_in < len(chunks):
                heapq.heappush(arrivals, (ends[chunk], handed_in))
                handed_in += 1
    return max(ends), delays, batches


def outcome(engine: str, policy: str, name: str, make: Callable[[Cost], Contender], cost: Cost, *, padded: bool) -> Outcome:
    lengths = trace(name)
    total, delays, batches = simulate(lengths, make(cost), cost)
    tokens = sum(lengths)
    computed = sum(max(lengths[row] for row in batch) * len(batch) for batch in batches) if padded else tokens
    busy = sum(cost([lengths[row] for row in batch]) for batch in batches) / (LANES * total)
    p99 = sorted(delays)[int(0.99 * (len(delays) - 1))]
    return Outcome(engine, policy, name, total, 1 - tokens / computed, p99, len(batches), busy)


def run(table: costs.Costs) -> list[Outcome]:
    found = []
    for name in TRACES:
        found += [outcome("padded", policy, name, make, table.padded, padded=True) for policy, make in PADDED.items()]
        found += [outcome("packed", policy, name, make, table.packed, padded=False) for policy, make in PACKED.items()]
    return found


def misses(found: Sequence[Outcome]) -> list[str]:
    """Where ours is not within 2 % of the best on its engine."""
    said = []
    for engine, name in dict.fromkeys((one.engine, one.trace) for one in found):
        rivals = [one for one in found if (one.engine, one.trace) == (engine, name)]
        best = min(rivals, key=lambda one: one.total_ms)
        own = next(one for one in rivals if one.policy == "textmill")
        if own.total_ms > WITHIN * best.total_ms:
            said.append(f"{engine}, {name}: {own.total_ms / best.total_ms - 1:.1%} slower than {best.policy}")
    return said


def print_table(found: Sequence[Outcome]) -> None:
    names = list(TRACES)
    print("total ms (× textmill) / padding % / p99 delay ms")
    for engine in ("padded", "packed"):
        print(f"\n{engine + ' engine':26s}" + "".join(f"{name:>32s}" for name in names))
        for policy in dict.fromkeys(one.policy for one in found if one.engine == engine):
            cells = []
            for name in names:
                by_policy = {one.policy: one for one in found if (one.engine, one.trace) == (engine, name)}
                one, own = by_policy[policy], by_policy["textmill"]
                cells.append(f"{one.total_ms:9.0f} ({one.total_ms / own.total_ms:5.3f}) /{100 * one.padding:5.1f} /{one.p99_delay_ms:6.0f}")
            print(f"{policy:26s}" + "".join(f"{cell:>32s}" for cell in cells))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.policies", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--costs", type=Path, default=costs.FILE, help="the measured cost table")
    parser.add_argument("--report", type=Path)
    options = parser.parse_args(arguments)
    found = run(costs.load(options.costs))
    print_table(found)
    said = misses(found)
    print("\n" + ("\n".join(said) if said else "textmill is the best or within 2 % of it on every trace of both engines."))
    if options.report is not None:
        measured = json.loads(options.costs.read_text())
        report = {
            "benchmark": "policies",
            "costs": {name: measured[name] for name in ("model", "machine")},
            "world": {"lanes": LANES, "shards_in_flight": SHARDS, "chunk_rows": CHUNK_ROWS},
            "outcomes": [asdict(one) for one in found],
            "misses": said,
        }
        options.report.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if said else 0


if __name__ == "__main__":
    raise SystemExit(main())
