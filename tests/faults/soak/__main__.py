"""`make soak`: ``python -m tests.faults.soak --minutes 20 --seed 1 --report soak-report.json``.

Ends with 0 where no row was lost, doubled, wrong, unaudited or miscounted, 1 where one was, 2 where there were too few rows. Everything
lies in a folder of its own, which is removed unless there is something in it to look at.
"""

import argparse
import os
import secrets
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.guard import guarded
from tests.faults.soak.report import NOT_CLEAN, on_the_terminal, write
from tests.faults.soak.run import soak


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=20.0, help="half as long again where the rows are not through by then")
    parser.add_argument("--seed", type=int, help="what is broken when, and which jobs there are; drawn where none is given")
    parser.add_argument("--report", type=Path, default=Path("soak-report.json"), help="and beside it, as .md")
    asked = parser.parse_args(arguments)
    seed = secrets.randbelow(1_000_000) if asked.seed is None else asked.seed
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # or what was started would outlive us
    for name in [name for name in os.environ if name.startswith("TEXTMILL_")]:
        del os.environ[name]  # of a stack of the person who runs this
    folder = Path(tempfile.mkdtemp(prefix="textmill-soak-"))
    clean = False
    try:
        with guarded():
            report = soak(asked.minutes, seed, folder, lambda line: print(line, flush=True))
        write(asked.report, report)
        print(f"\n{on_the_terminal(report)}")
        clean = report.exit_code != NOT_CLEAN
        return report.exit_code
    finally:
        if clean:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"what there is to look at lies in {folder}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
