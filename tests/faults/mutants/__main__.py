"""`python -m tests.faults.mutants`: takes each guard out of a copy of this tree and expects its tests to go red.

Ends with 1 where a mutant survives, or where its tests fail without it. `--only ID,ID` runs some; `--report FILE.json` writes what came
out, beside it as .md.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.faults.mutants.roll import ALL
from tests.faults.mutants.run import Copy, Verdict, markdown, run_all, write

ROOT = Path(__file__).parents[3]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.mutants", description=__doc__)
    parser.add_argument("--only", help="ids, separated by commas")
    parser.add_argument("--report", type=Path, help="a .json, and beside it a .md")
    parser.add_argument("--jobs", type=int, default=2, help="how many at once, each in a copy of its own (2)")
    arguments = parser.parse_args()
    wanted = set(arguments.only.split(",")) if arguments.only else {mutant.id for mutant in ALL}
    if unknown := wanted - {mutant.id for mutant in ALL}:
        parser.error(f"no such mutant: {', '.join(sorted(unknown))}")
    chosen = [mutant for mutant in ALL if mutant.id in wanted]
    with tempfile.TemporaryDirectory(prefix="textmill-mutants-") as folder:
        copies = [Copy.of(ROOT, Path(folder) / f"tree-{number}") for number in range(arguments.jobs)]
        outcomes = run_all(copies, chosen, tell=lambda line: print(line, flush=True))
    print(markdown(outcomes))
    if arguments.report is not None:
        write(arguments.report, outcomes)
    return int(any(outcome.verdict is not Verdict.FOUND for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
