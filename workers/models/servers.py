"""Models that run on servers: those that the operator's registry file names (TEXTMILL_MODEL_REGISTRY), and no others.

A file in TOML, a table ``[[models]]`` each. A request can only name a model, never an address. An entry that cannot be used harms itself
alone: its card does no task and says why; so does a file that cannot be read, by one card that has the file's name. Light: no server is
asked.
"""

import os
import tomllib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

import msgspec

from db.private_files import why_others_may_write
from workers.models.card import ModelCard
from workers.models.server_entry import ServerEntry

VARIABLE: Final = "TEXTMILL_MODEL_REGISTRY"
CHARS_PER_SECOND: Final = 2_000  # a first guess, until the dispatcher has measured
MOST_BYTES: Final = 1 << 20  # of the file


def server_models() -> list[ModelCard]:
    """In the order of the file."""
    place = os.environ.get(VARIABLE)
    if not place:
        return []
    path = Path(place).expanduser()
    try:
        about = path.stat()
    except OSError:
        return [_damaged(path.name, f"{path} cannot be read.")]
    return list(_cards(path, about.st_mtime_ns, about.st_ctime_ns, about.st_size))


def server_model(model_id: str) -> ModelCard | None:
    """The one of that id, or None."""
    return next((card for card in server_models() if card.id == model_id), None)


@lru_cache(maxsize=4)
def _cards(path: Path, _changed_ns: int, _moved_ns: int, size_bytes: int) -> tuple[ModelCard, ...]:
    try:
        why = why_others_may_write(path, path.resolve().parent)
        if why is None and size_bytes > MOST_BYTES:
            why = f"{path} is larger than {MOST_BYTES >> 20} MiB."
        tables = tomllib.loads(path.read_text())["models"] if why is None else []
    except OSError:
        why = f"{path} cannot be read."
    except tomllib.TOMLDecodeError as error:
        why = f"{path} is not TOML: {error}."
    except (KeyError, TypeError, UnicodeDecodeError):
        why = f"{path} has no tables [[models]]."
    if why is None and not isinstance(tables, list):
        why = f"{path} has no tables [[models]]."
    return tuple(_each(tables)) if why is None else (_damaged(path.name, why),)


def _each(tables: Sequence[object]) -> Iterator[ModelCard]:
    seen: set[str] = set()
    for number, table in enumerate(tables, 1):
        try:
            entry = msgspec.convert(table, ServerEntry)
        except msgspec.ValidationError as error:
            named = table.get("id") if isinstance(table, dict) else None
            yield _damaged(named if isinstance(named, str) and named else f"models[{number}]", f"its entry in {VARIABLE}: {error}.")
            continue
        why = "another model of the file has its id" if entry.id in seen else entry.why_not()
        seen.add(entry.id)
        yield _card(entry) if why is None else _damaged(entry.id, f"its entry in {VARIABLE}: {why}.")


def _card(entry: ServerEntry) -> ModelCard:
    return ModelCard(
        id=entry.id,
        kind="decoder" if "generate" in entry.tasks else "encoder",
        tasks=entry.tasks,
        licence=entry.licence,
        upstream="",
        source_package="",
        source_version="",
        max_tokens=entry.max_tokens or 0,
        dimensions=len(entry.labels) or entry.dimensions or 0,
        speed_chars_per_second=CHARS_PER_SECOND,
        labels=entry.labels,
        server=entry,
    )


def _damaged(model_id: str, why: str) -> ModelCard:
    return ModelCard.unusable(model_id, "decoder", why)
