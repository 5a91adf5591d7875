"""Writes the lock files from pyproject.toml, by version and hash: ``requirements.lock`` for development, ``container.lock`` for
the image. Needs pip-tools. Pins that still fit stay; ``--upgrade`` looks for newer ones.

torch is left out because its CPU and CUDA builds share a version and differ in hash: whoever installs takes it first, pinned by version.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
EXTRAS: Final = ("--extra", "openvino", "--extra", "onnxruntime", "--extra", "checks")
LOCKS: Final = {
    "requirements.lock": [*EXTRAS, "--extra", "embedded", "--extra", "models", "--extra", "demo", "--extra", "dev"],
    "container.lock": [*EXTRAS, "--extra", "models", "--build-deps-for", "wheel"],
}
HEAD: Final = """\
# Written by `make lock` from pyproject.toml: every package by version and hash.
# torch is not in it: its builds (CPU, CUDA) share a version and differ in hash, so it is installed first, pinned by version.
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


def main(arguments: list[str]) -> None:
    pinned = HERE / "requirements.lock"
    for name, chosen in LOCKS.items():
        with tempfile.TemporaryDirectory() as folder:
            constraints, raw = Path(folder, "constraints.txt"), Path(folder, "lock.txt")
            # The image gets the versions that development has tested.
            known = re.findall(r"^[\w.-]+==\S+", pinned.read_text(), re.MULTILINE) if name != pinned.name else []
            constraints.write_text("\n".join([f"torch=={torch_version()}", *known]) + "\n")
            if "--upgrade" not in arguments and (HERE / name).exists():
                raw.write_text((HERE / name).read_text())
            command = [sys.executable, "-m", "piptools", "compile", "--quiet", "--generate-hashes", "--strip-extras", "--allow-unsafe"]
            command += ["--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host"]
            command += ["--constraint", str(constraints), *chosen, "--output-file", str(raw), "pyproject.toml"]
            subprocess.run(command, cwd=HERE.parent, check=True)  # noqa: S603 -- our own words
            (HERE / name).write_text(HEAD + without("torch", raw.read_text()))


if __name__ == "__main__":
    main(sys.argv[1:])
