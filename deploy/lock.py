"""Writes deploy/requirements.lock from pyproject.toml, by version and hash, without torch. Needs pip-tools in the running Python's PATH.

torch is left out because its CPU and CUDA builds share a version and differ in hash: the Makefile installs it first, pinned by version.
"""

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
EXTRAS: Final = ("embedded", "models", "demo", "dev")
HEAD: Final = """\
# Every package of a development set-up, by version and hash: `make lock` writes this file from pyproject.toml.
# torch is not in it: its builds (CPU, CUDA) share a version and differ in hash, so the Makefile installs it first, pinned by version.
"""


def torch_version() -> str:
    """The version of torch that the Makefile pins."""
    found = re.search(r"torch==([0-9.]+)", (HERE.parent / "Makefile").read_text())
    if found is None:
        raise SystemExit("The Makefile pins no version of torch.")
    return found[1]


def without(name: str, lock: str) -> str:
    """``lock`` less the entry of ``name`` and less comments."""
    kept, skipping = [], False
    for line in lock.splitlines():
        if line and not line.startswith((" ", "#")):
            skipping = re.split(r"[=\[]", line)[0] == name
        if not skipping and not line.startswith("#") and line:
            kept.append(line)
    return "\n".join(kept) + "\n"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        constraint, raw = Path(folder, "constraint.txt"), Path(folder, "lock.txt")
        constraint.write_text(f"torch=={torch_version()}\n")
        command = ["pip-compile", "--quiet", "--generate-hashes", "--strip-extras", "--allow-unsafe", "--no-header", "--no-annotate"]
        command += ["--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host", "--constraint", str(constraint)]
        command += [part for extra in EXTRAS for part in ("--extra", extra)]
        subprocess.run([*command, "--output-file", str(raw), "pyproject.toml"], cwd=HERE.parent, check=True)
        (HERE / "requirements.lock").write_text(HEAD + without("torch", raw.read_text()))


if __name__ == "__main__":
    main()
