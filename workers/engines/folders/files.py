"""The files of a model's folder, each looked at before it is used."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from db.errors import TextmillError
from workers.models.folder_config import Unreadable, read_json


def broken(folder: Path, why: str) -> TextmillError:
    """A model folder that cannot be used; `why` names a file, a field or a weight, never a value out of them."""
    return TextmillError(f"{folder.name}: {why}", code="model_broken")


def read_settings(folder: Path, path: Path) -> Any:
    """What a JSON file of the folder holds. Raises TextmillError "model_broken"."""
    try:
        return read_json(path)
    except Unreadable as error:
        raise broken(folder, str(error)) from None


def read_config(folder: Path) -> dict[str, Any]:
    """Raises TextmillError "model_broken"."""
    config = read_settings(folder, folder / "config.json")
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise broken(folder, "config.json names no model_type.")
    return config


@contextmanager
def fitting(folder: Path) -> Iterator[None]:
    """Around what goes by the values of config.json. Raises TextmillError "model_broken" where one is of a wrong kind."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise broken(folder, f"config.json holds a value that does not fit a model of its kind ({type(error).__name__}).") from None


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files, each of the length that its head tells of. Raises TextmillError "model_broken"."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise broken(folder, "there is no .safetensors file (pickled weights are never loaded).")
    for file in files:
        check_whole(folder, file)
    return files


def check_whole(folder: Path, file: Path) -> None:
    """Raises TextmillError "model_broken"."""
    try:
        with safe_open(file, framework="pt"):
            pass
    except (SafetensorError, OSError):
        raise broken(folder, f"{file.name} is cut off or not a safetensors file.") from None
