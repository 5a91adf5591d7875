"""Runs one part here: ``python -m tests.gpu.child MODULE ANSWER cuda|cpu quick|whole``. What came out goes to the file ANSWER."""

import importlib
import json
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.gpu.finding import CannotRun, Setting


def main(module: str, answer: str, device: str, how_much: str) -> None:
    path = Path(answer)
    setting = Setting("cuda" if device == "cuda" else "cpu", how_much == "quick", path.parent)
    path.write_text(json.dumps(outcome(module, setting), default=str))


def outcome(module: str, setting: Setting) -> dict[str, Any]:
    try:
        found = importlib.import_module(module).run(setting)
    except CannotRun as error:
        return {"verdict": "could not run", "why": str(error)}
    except ModuleNotFoundError as error:
        return {"verdict": "could not run", "why": f"the package {error.name} is not installed"}
    except Exception as error:
        traceback.print_exc()
        return {"verdict": "could not run", "why": f"{type(error).__name__}: {error}"}
    return {**asdict(found), "verdict": found.verdict}


if __name__ == "__main__":
    main(*sys.argv[1:5])
