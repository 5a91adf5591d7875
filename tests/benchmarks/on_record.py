"""What it costs that Postgres shows nothing sealed without an event: C3 and the null model with and without the policies that say so.

`python -m tests.benchmarks.on_record [--rows N] [--texts N] [--turns N] [--only NAME] [--report FILE]`. One stack a workload, one database,
in turns: the policies are made to ask for nothing, and put back. What is recorded, and in which order, is the same in both.
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from db.connect import open_store
from db.settings import Role, StoreSettings
from tests.benchmarks.end_to_end import measure_whole
from tests.benchmarks.guards import interval_of, share_taken
from tests.benchmarks.machine import describe_machine
from tests.benchmarks.mill import ENCODER, NULL_ENVIRONMENT, NULL_MODEL, Mill, own_environment, running
from tests.benchmarks.nothing_asked import nothing_asked
from tests.benchmarks.turns import Run
from tests.benchmarks.workloads import Workload, c3, many

GOALS: Final = {"c3": 0.98, "null": 0.93}
WARM_UPS: Final = 3  # until shards are sized by what was measured


@dataclass(frozen=True, slots=True)
class Kept:
    """Of throughput, with the policies ÷ without them, pair by pair; and of what a CPU second does, which other work does not touch."""

    workload: str
    rows: int
    asked: list[Run]
    open: list[Run]

    @property
    def ratio(self) -> float:
        return 1 - share_taken(self._logs)

    @property
    def cpu_ratio(self) -> float:
        pairs = zip(self.asked, self.open, strict=True)
        return 1 - share_taken([math.log(asked.cpu_seconds / free.cpu_seconds) for asked, free in pairs])

    @property
    def interval(self) -> tuple[float, float]:
        low, high = interval_of(self._logs)
        return 1 - high, 1 - low

    @property
    def _logs(self) -> list[float]:
        return [math.log(asked.seconds / free.seconds) for asked, free in zip(self.asked, self.open, strict=True)]

    @property
    def told(self) -> str:
        (low, high), goal = self.interval, GOALS[self.workload]
        verdict = "pass" if low >= goal else "MISS" if high < goal else "inconclusive"
        rates = [statistics.median(run.rate for run in runs) for runs in (self.asked, self.open)]
        return (
            f"{self.workload}: {self.ratio:.3f} ({low:.3f} to {high:.3f}; goal ≥ {goal}: {verdict}), by CPU time {self.cpu_ratio:.3f}; "
            f"{rates[0]:,.0f} rows/s with, {rates[1]:,.0f} without, {len(self.open)} pairs of {self.rows:,} rows"
        )


def measure(name: str, mill: Mill, workload: Workload, model: str, turns: int) -> Kept:
    def run() -> Run:
        return measure_whole(mill, workload, model)

    for _ in range(WARM_UPS):
        run()
    asked: list[Run] = []
    free: list[Run] = []
    with closing(open_store(StoreSettings(home=mill.home), Role.OWNER, pool_size=1)) as owner:

        def run_free() -> None:
            with nothing_asked(owner):
                free.append(run())

        kinds: list[Callable[[], object]] = [lambda: asked.append(run()), run_free]
        for turn in range(turns):
            for kind in kinds if turn % 2 == 0 else reversed(kinds):
                kind()
    return Kept(name, len(workload), asked, free)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.on_record", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=20_000, help="of the null model")
    parser.add_argument("--texts", type=int, default=2_000, help="of C3")
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--only", choices=sorted(GOALS))
    parser.add_argument("--report", type=Path)
    options = parser.parse_args(arguments)
    own_environment()
    found: list[Kept] = []
    with tempfile.TemporaryDirectory(prefix="textmill-on-record-", ignore_cleanup_errors=True) as folder:
        if options.only != "c3":
            with running(Path(folder) / "null", NULL_ENVIRONMENT) as mill:
                found.append(measure("null", mill, many("Q1", options.rows), NULL_MODEL, options.turns))
                print(found[-1].told, flush=True)
        if options.only != "null":
            with running(Path(folder) / "c3", {}) as mill:
                found.append(measure("c3", mill, c3().take(options.texts), ENCODER, options.turns))
                print(found[-1].told, flush=True)
    if options.report is not None:
        report = [{**asdict(each), "ratio": each.ratio, "interval": each.interval, "cpu_ratio": each.cpu_ratio} for each in found]
        options.report.write_text(json.dumps({"benchmark": "on_record", "machine": describe_machine(), "found": report}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
