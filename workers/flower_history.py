"""What Flower keeps from one start to the next, read as that and nothing else: pickle runs whatever a file names, as the stack's user."""

import os
import pickle
from pathlib import Path
from typing import Any, Final

from db.private_files import why_others_may_write

# What the state of events is made of; a file that names anything else is no history.
MADE_OF: Final = frozenset(
    {
        ("flower.events", "EventsState"),
        ("celery.events.state", "Task"),
        ("celery.events.state", "Worker"),
        ("celery.events.state", "_depickle_task"),
        ("collections", "Counter"),
        ("collections", "OrderedDict"),
        ("kombu.utils.functional", "LRUCache"),
    }
)


class HistoryUnpickler(pickle.Unpickler):
    """Makes what a history is made of; raises UnpicklingError where anything else is asked for."""

    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) not in MADE_OF:
            raise pickle.UnpicklingError("no history of Flower")
        return super().find_class(module, name)


def why_not_ours(history: Path) -> str | None:
    """Why others may have written it: ``history`` is its path, less what a database's format adds. None where they cannot, or none is there
    and its folder is not open to all."""
    folder = history.parent
    kept = sorted(folder.glob(f"{history.name}*"))
    for place in (folder, *kept):
        owner = place.lstat().st_uid
        if owner not in (0, os.geteuid()):
            return f"{place} belongs to another user (uid {owner}): Flower reads no history that others made. Remove it, and start again."
    # Beside others' files in a folder with the sticky bit, as a container has it, each is its owner's alone.
    return why_others_may_write(*kept) or (None if kept or not folder.is_dir() else _why_open(folder))


def _why_open(folder: Path) -> str | None:
    return None if folder.stat().st_mode & 0o1000 else why_others_may_write(folder)
