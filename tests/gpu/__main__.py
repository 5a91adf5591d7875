"""`make gpu`: what only a GPU can show, in at most eight minutes.

`python -m tests.gpu [--only PART…] [--device cpu] [--report FILE]`. Exit code 1 where a part did not pass or could not run, on the GPU or,
where there is none, on the CPU. Without a GPU the first and the last line say "not run on a GPU", and 0 means no more than that what a CPU
can check is right. Needs no network, no set-up and no package to say what is missing.
"""

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.gpu import card, packages, report
from tests.gpu.finding import Setting
from tests.gpu.suite import PARTS, WHOLE_SECONDS, exit_code, run_suite


def main(arguments: list[str]) -> int:
    names = [part.name for part in PARTS]
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="PART", help=f"of {', '.join(names)}")
    parser.add_argument("--device", choices=("cuda", "cpu"), help="the CPU: little of each part, to see that it runs")
    parser.add_argument("--seconds", type=float, default=WHOLE_SECONDS, help="for all of it")
    parser.add_argument("--report", type=Path, default=Path("gpu-report.json"))
    asked = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # or a part's stack would outlive us
    asked.report.parent.mkdir(parents=True, exist_ok=True)  # a run of minutes must not end in a folder that is not there
    has_gpu = card.present() and asked.device != "cpu"
    here, missing = packages.found(packages.wanted())
    if not has_gpu:
        say(f"{report.NO_GPU}. What a CPU can check of it:")
    if missing:
        say(f"not installed in {sys.executable}: {', '.join(missing)}; a bundle has them (make bundle, then its install)")
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="textmill-gpu-", ignore_cleanup_errors=True) as folder:
        setting = Setting("cuda" if has_gpu else "cpu", not has_gpu, Path(folder))
        outcomes = run_suite([part for part in PARTS if part.name in asked.only], setting, say=say, whole_seconds=asked.seconds)
    seconds = time.perf_counter() - began
    machine = report.describe([one.as_dict() for one in card.cards()], here, missing)
    markdown = report.write(asked.report, outcomes, machine, seconds, has_gpu=has_gpu)
    say(f"{report.headline(outcomes, has_gpu=has_gpu)} {seconds:.0f} s; {asked.report}, {markdown}")
    if failed := report.failures(outcomes):
        print(failed, file=sys.stderr)
    return exit_code(outcomes)


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
