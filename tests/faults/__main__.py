"""`make faults`: the matrix, what its guards cost, the mutants, then the goals.

`python -m tests.faults [--report FILE] [--only PART,PART]`. Parts: matrix, guards, mutants. What each came to lies beside the report, in
faults-matrix.json, faults-guards.json and faults-mutants.json; a part that is left out is told of from there. The soak's figures are
those of the last `make soak`, or else of the report that is committed. Ends with 1 where a test of the matrix failed, a mutant survived
or a goal was missed.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.goals import goal_rows, markdown_table, missed, text_table
from tests.faults.goals import GOALS, figures_of
from tests.faults.table import markdown, read, text

ROOT: Final = Path(__file__).parents[2]
HEAD: Final = ("what", "goal", "figure", "verdict", "note")
COMMITTED_SOAK: Final = Path(__file__).parent / "reports" / "soak.json"
PARTS: Final = {
    "matrix": ("pytest", "tests/faults", "--matrix", "-m", "fault", "-q", "--fault-report"),
    "guards": ("tests.benchmarks.guards", "--report"),
    "mutants": ("tests.faults.mutants", "--report"),
}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--report", type=Path, default=Path("faults-report.json"), help="beside it, as .md, the tables of everything")
    parser.add_argument("--only", help=f"some of {', '.join(PARTS)}, separated by commas")
    asked = parser.parse_args(arguments)
    chosen = asked.only.split(",") if asked.only else list(PARTS)
    if unknown := set(chosen) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    folder = asked.report.resolve().parent
    files = {part: folder / f"faults-{part}.json" for part in PARTS}
    began = time.monotonic()
    codes = {}
    for part in chosen:
        files[part].unlink(missing_ok=True)  # or an older run would stand for one that died
        codes[part] = subprocess.run([sys.executable, "-m", *PARTS[part], str(files[part])], cwd=ROOT, check=False).returncode
    lines = read(files["matrix"]) if files["matrix"].exists() else []
    soak = next((path for path in (folder / "soak-report.json", COMMITTED_SOAK) if path.exists()), None)
    figures = figures_of(lines, _json(soak), _json(files["guards"]), _json(files["mutants"]))
    rows = goal_rows(GOALS, figures)
    minutes = (time.monotonic() - began) / 60
    asked.report.write_text(json.dumps({"goals": rows, "minutes": round(minutes, 1), "exit_codes": codes}, indent=2) + "\n")
    others = [files[part].with_suffix(".md") for part in ("mutants",)]
    parts = [f"# Faults\n\n{markdown_table(HEAD, rows)}\n", markdown(lines), *(path.read_text() for path in others if path.exists())]
    asked.report.with_suffix(".md").write_text("\n".join(parts))
    print(f"\n{text(lines)}\n\n{text_table(HEAD, rows)}\n\n{minutes:.0f} minutes; all of it lies in {asked.report.with_suffix('.md')}")
    return int(any(codes.values()) or bool(missed(GOALS, figures)))


def _json(path: Path | None) -> Any:
    return json.loads(path.read_text()) if path is not None and path.exists() else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
