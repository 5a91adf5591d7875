"""Brings a model's files to this machine, checked against the registry, as a folder of safetensors and a tokenizer.

Nothing is fetched: the files come out of installed packages. MiniLM is used where its package lies; Gemma is put together from its GGUF
parts and converted once, into <home>/models/. `python -m workers.models.provision [id…]` does it ahead of time.
"""

import hashlib
import importlib
import importlib.util
import shutil
import sys
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

from filelock import FileLock

from db.errors import TextmillError
from db.settings import StoreSettings, load
from workers.models import registry
from workers.models.card import ModelCard
from workers.models.folders import why_changeable
from workers.models.tokenizer_trial import why_slow


def ensure(card: ModelCard, home: Path) -> Path:
    """The folder with the card's files, each with the digest that the registry names. Idempotent; safe in several processes at once.

    Raises TextmillError "model_not_installed", "model_files_differ", "models_not_writable", or "model_broken" for an operator's own.
    """
    if card.adapter is not None:
        _check_own(card, card.adapter)
    if card.folder is not None:
        _check_own(card, card.folder)
        return card.folder
    package = _package_folder(card)
    if not card.source_sha256:
        folder = package / "model"
    else:
        folder = home.expanduser() / "models" / card.base_id
        if not folder.is_dir():
            _convert_once(card, package, folder)
    _check(card, folder)
    return folder


def is_here(card: ModelCard) -> bool:
    """Whether this machine has what `ensure` makes it of. No look at the files."""
    if card.damaged:
        return False
    return card.folder is not None or not card.source_package or _package_place(card.source_package) is not None


def weight_bytes(card: ModelCard, folder: Path) -> int:
    """Of its files, and of an adapter's."""
    return sum(path.stat().st_size for path in _weight_files(card, folder))


def with_digest(card: ModelCard, folder: Path) -> ModelCard:
    """The card of an operator's own model, or adapter, with the digest that its weights have now; any other card as it is."""
    if card.folder is None and card.adapter is None:
        return card
    whole = hashlib.sha256()
    for path in _weight_files(card, folder):
        whole.update(path.name.encode() + b"\0" + bytes.fromhex(_digest_now(path)))
    return replace(card, files={"model.safetensors": whole.hexdigest()})


def _weight_files(card: ModelCard, folder: Path) -> list[Path]:
    kind = "openvino_model.*" if card.openvino else "*.safetensors"
    return [path for place in (folder, card.adapter) if place is not None for path in sorted(place.glob(kind))]


def _check_own(card: ModelCard, folder: Path) -> None:
    """There is no digest to hold its files to."""
    try:
        why = card.damaged or why_changeable(folder) or why_slow(folder)
    except OSError:
        why = "the folder cannot be read."
    if why:
        raise TextmillError(f"{card.id}: {why}", code="model_broken")


def _check(card: ModelCard, folder: Path) -> None:
    for name, sha256 in card.files.items():
        path = folder / name
        try:
            digest = _digest_now(path)
        except OSError:
            raise TextmillError(
                f"{card.id}: {name} is missing or cannot be read. {_remedy(card, folder)}", code="model_not_installed"
            ) from None
        if digest != sha256:
            raise TextmillError(
                f"{card.id}: {name} is not the file that the registry names, so it is not loaded. {_remedy(card, folder)}",
                code="model_files_differ",
            )


def _remedy(card: ModelCard, folder: Path) -> str:
    if card.source_sha256:
        return f"Remove {folder} and start again; it is made anew."
    return f"Install {card.source_package}=={card.source_version} again."


def _digest_now(path: Path) -> str:
    stat = path.stat()
    return _digest(path, stat.st_mtime_ns, stat.st_size)


@cache
def _digest(path: Path, mtime_ns: int, size_bytes: int) -> str:
    """Once per process and state of the file: half a gigabyte takes about half a second."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _package_folder(card: ModelCard) -> Path:
    """Where the package lies, without importing it."""
    place = _package_place(card.source_package)
    if place is None:
        raise TextmillError(
            f"{card.id} needs the package {card.source_package}. Install it, or textmill[models].", code="model_not_installed"
        )
    return place


def _package_place(package: str) -> Path | None:
    spec = importlib.util.find_spec(package.replace("-", "_"))
    return None if spec is None or not spec.submodule_search_locations else Path(next(iter(spec.submodule_search_locations)))


def _convert_once(card: ModelCard, package: Path, folder: Path) -> None:
    """Makes `folder` whole or not at all: it is written beside its place and then renamed."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{card.base_id}.lock", fallback_to_soft=False):  # ends with the process, however that ends
            if folder.is_dir():  # another process made it while this one waited
                return
            for left in folder.parent.glob(f".{card.base_id}-*"):  # of a process that was killed
                shutil.rmtree(left, ignore_errors=True)
            made = Path(tempfile.mkdtemp(prefix=f".{card.base_id}-", dir=folder.parent))
            try:
                _convert(card, package, made)
                made.rename(folder)
            finally:
                shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        raise TextmillError(
            f"{card.id} cannot be written to {folder.parent} ({error.strerror}). It needs 600 MB and the right to write there.",
            code="models_not_writable",
        ) from None


def _convert(card: ModelCard, package: Path, folder: Path) -> None:
    data = _joined_parts(card)
    if hashlib.sha256(data).hexdigest() != card.source_sha256:
        raise TextmillError(
            f"{card.id}: the parts of {card.source_package} are not those that the registry names. Install it again.",
            code="model_files_differ",
        )
    from workers.models.gemma_gguf import convert  # needs the gguf package, which only this step does

    convert(data, folder)
    for terms in ("GEMMA_TERMS.html", "NOTICE.md"):  # they go where the weights go
        shutil.copy(package / "data" / terms, folder / terms)


def _joined_parts(card: ModelCard) -> bytes:
    parts = importlib.import_module(card.source_package.replace("-", "_")).chunk_paths()
    return b"".join(Path(part).read_bytes() for part in parts)


def main(arguments: list[str]) -> None:
    home = load(StoreSettings).home_path
    for card in [registry.get(model_id) for model_id in arguments] or registry.all_models():
        if card.files:
            sys.stdout.write(f"{card.id}: {ensure(card, home)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
