"""`make bench`: the goals table, from our own runs on this machine.

`python -m tests.benchmarks [--full] [--turns N] [--rows N] [--only PART…] [--strict] [--report FILE]`. Some ten minutes on two cores.
Everything runs in a folder of its own that is removed afterwards.
"""

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.goals import GOALS, missed
from tests.benchmarks.guard import guarded
from tests.benchmarks.machine import describe_machine
from tests.benchmarks.mill import own_environment
from tests.benchmarks.report import Findings, on_the_terminal, write
from tests.benchmarks.suite import PARTS, Options, Suite


def main(arguments: list[str]) -> int:
    """0 when every part that was asked for ran, whatever came out; 1 where one could not, or, with ``--strict``, where a goal was missed or
    not measured often enough."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--full", action="store_true", help="whole workloads and every turn, however long it takes")
    parser.add_argument("--turns", type=int, default=Options().turns)
    parser.add_argument("--rows", type=int, default=Options().rows, help="of the many rows through the null model")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[], metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--strict", action="store_true", help="exit 1 where a goal is missed")
    parser.add_argument("--report", type=Path, default=Path("bench-report.json"))
    asked = parser.parse_args(arguments)
    options = Options(asked.full, asked.turns, asked.rows, frozenset(asked.only))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # or the stacks would outlive us
    tuning = own_environment()
    machine = describe_machine()
    began = time.perf_counter()

    def say(line: str) -> None:
        print(f"{time.perf_counter() - began:5.0f} s  {line}", flush=True)

    with tempfile.TemporaryDirectory(prefix="textmill-bench-", ignore_cleanup_errors=True) as folder, guarded():
        suite = Suite(Path(folder), options, say)
        suite.run()
    seconds = time.perf_counter() - began
    settings: dict[str, object] = {"full": options.full, "turns": options.turns, "rows": options.rows, **tuning}
    markdown = write(asked.report, suite.found, machine, seconds, settings)
    print(f"\n{on_the_terminal(suite.found)}\n\n{seconds:.0f} s · {asked.report} · {markdown}")
    if suite.found.failures:
        print(f"not measured, so this run failed: {', '.join(suite.found.failures)}", file=sys.stderr)
    return exit_code(suite.found, strict=asked.strict)


def exit_code(found: Findings, *, strict: bool) -> int:
    return int(bool(found.failures) or (strict and bool(missed(GOALS, found.figures))))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
