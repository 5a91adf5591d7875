"""Which packages of textmill this Python has, and which not: a machine without a network is told what to bring."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).parents[2] / "pyproject.toml"
EXTRAS: Final = ("embedded", "models")
PEER: Final = "sentence-transformers"


def wanted(project: Path = PROJECT) -> list[str]:
    """Names that textmill needs to run on one machine; from the checkout, or from what is installed."""
    try:
        read = tomllib.loads(project.read_text())["project"]
        lines = [*read["dependencies"], *(line for extra in EXTRAS for line in read["optional-dependencies"][extra])]
    except OSError:
        try:
            extra = re.compile(rf"extra == .({'|'.join(EXTRAS)}).")
            lines = [line for line in requires("textmill") or [] if "extra ==" not in line or extra.search(line)]
        except PackageNotFoundError:
            lines = []
    names = [found.group() for line in lines if (found := re.match(r"[A-Za-z0-9._-]+", line))]
    return sorted({*names, PEER})


def found(names: list[str]) -> tuple[dict[str, str], list[str]]:
    """Versions of those that are here, and the others."""
    here, missing = {}, []
    for name in names:
        try:
            here[name] = version(name)
        except PackageNotFoundError:
            missing.append(name)
    return here, missing
