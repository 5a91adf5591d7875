"""Brings a model's files to this machine, checked against the registry, as a folder of safetensors and a tokenizer.

Nothing is fetched: the files come out of installed packages. MiniLM is used where its package lies; Gemma is put together from its GGUF
parts and converted once into <home>/models/. `python -m workers.models.provision [id…]` does it ahead of time.
"""

import hashlib
import importlib.util
import os
import sys
from functools import cache
from pathlib import Path

from db.errors import TextmillError
from workers.models import registry
from workers.models.registry import ModelCard


def ensure(card: ModelCard, home: Path) -> Path:
    """The folder with the card's files, each with the digest that the registry names. Idempotent; safe in several processes at once.

    Raises TextmillError "model_not_installed" or "model_files_differ".
    """
    folder = _package_folder(card) / "model"
    _check(card, folder)
    return folder


def _check(card: ModelCard, folder: Path) -> None:
    for name, sha256 in card.files.items():
        path = folder / name
        try:
            stat = path.stat()
        except OSError:
            raise TextmillError("model_not_installed", f"{card.id}: the file {name} is missing. Install {card.source_package}.") from None
        if _digest(path, stat.st_mtime_ns, stat.st_size) != sha256:
            raise TextmillError(
                "model_files_differ",
                f"{card.id}: {name} is not the file of {card.source_package} {card.source_version}; refusing to load it.",
            )


@cache
def _digest(path: Path, mtime_ns: int, size_bytes: int) -> str:
    """Once per process and state of the file: hashing half a gigabyte takes about a second."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _package_folder(card: ModelCard) -> Path:
    """Where the package lies, without importing it."""
    spec = importlib.util.find_spec(card.source_package.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise TextmillError("model_not_installed", f"{card.id}: the package {card.source_package} is not installed.")
    return Path(spec.submodule_search_locations[0])


def main(arguments: list[str]) -> None:
    home = Path(os.environ.get("TEXTMILL_HOME", "~/.textmill")).expanduser()
    for card in [registry.get(model_id) for model_id in arguments] or registry.all_models():
        if card.files:
            sys.stdout.write(f"{card.id}: {ensure(card, home)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
