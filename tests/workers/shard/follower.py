"""Follows one row through the functions of the house: which of them take it or give it back, in whatever form it has by then.

A function is on the row's way where one of its arguments, or what it returns, holds the row: its sealed body, its text, its token ids, its
vector, its scores, its answer, or an object or a list that holds one of these. What a library does with it is not followed, nor what the
layers of a model do below an engine's `run`. A **shape** is a class with fields of which an object held the row.
"""

import dataclasses
import sys
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final

import msgspec
import numpy as np

from workers.arrays import Ids, Vectors

MOST_ITEMS: Final = 64
MOST_DEPTH: Final = 4
PACKAGES: Final = ("db", "workers")


class Follower:
    """Parameters: the forms of the row. ``known``: bytes by which a text or an answer is recognised, or a sealed value."""

    def __init__(self, root: Path, known: Sequence[bytes], ids: Ids, numbers: Sequence[Vectors]) -> None:
        self._root = f"{root}/"
        self._places = tuple(f"{root}/{package}/" for package in PACKAGES)
        self._known = list(known)
        self._ids = ids.astype(np.int32).tobytes()
        self._numbers = numbers
        self._thread = threading.local()
        self.functions: set[tuple[str, str]] = set()
        self.shapes: set[str] = set()

    @property
    def files(self) -> set[str]:
        return {file for file, _ in self.functions}

    def start(self) -> None:
        """Follows this thread, and threads that are started from now on."""
        threading.setprofile(self._see)
        sys.setprofile(self._see)

    def stop(self) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def forget(self) -> None:
        self.functions.clear()
        self.shapes.clear()

    def _see(self, frame: FrameType, event: str, returned: object) -> None:
        code = frame.f_code
        if event not in {"call", "return"} or not code.co_filename.startswith(self._places) or code.co_name.startswith("<"):
            return
        if getattr(self._thread, "busy", False):
            return
        model = code.co_name == "run" and "/engines/" in code.co_filename
        if model and event == "return":
            self._thread.in_model = False
        if getattr(self._thread, "in_model", False):
            return
        self._thread.in_model = model and event == "call"
        self._thread.busy = True
        try:
            values = _arguments(frame) if event == "call" else [returned]
            if self._any_holds(values, 0):
                self.functions.add((code.co_filename.removeprefix(self._root), code.co_qualname))
                if event == "return" and code.co_name in {"seal", "seal_all"}:
                    self._known += [
                        sealed for sealed in (returned if isinstance(returned, list) else [returned]) if isinstance(sealed, bytes)
                    ]
        finally:
            self._thread.busy = False

    def _holds(self, value: Any, depth: int) -> bool:
        if value is None or isinstance(value, bool | int | float) or depth > MOST_DEPTH:
            return False
        if isinstance(value, str | bytes | bytearray | memoryview):
            raw = value.encode(errors="replace") if isinstance(value, str) else bytes(value)
            return any(known in raw for known in self._known)
        if isinstance(value, np.ndarray):
            return self._holds_numbers(value)
        if isinstance(value, list | tuple) and value and isinstance(value[0], float):
            return self._holds_numbers(np.array(value))
        if isinstance(value, dict):
            return self._any_holds([*list(value.values())[:MOST_ITEMS], *list(value)[:MOST_ITEMS]], depth + 1)
        if isinstance(value, list | tuple | set | frozenset | deque) and not hasattr(value, "_fields"):
            return self._any_holds(list(value)[:MOST_ITEMS], depth + 1)
        kind = type(value)
        fields = _fields(value) if kind.__module__.partition(".")[0] in PACKAGES else None
        if fields is None or not self._any_holds(fields, depth + 1):
            return False
        self.shapes.add(f"{kind.__module__}.{kind.__qualname__}")
        return True

    def _any_holds(self, values: Sequence[object], depth: int) -> bool:
        """Looks at all of them: each may be a shape."""
        return True in [self._holds(value, depth) for value in values]

    def _holds_numbers(self, value: Any) -> bool:
        if value.dtype.kind in "iu":
            return self._ids in value.astype(np.int32).tobytes()
        if value.dtype.kind != "f":
            return False
        return any(
            value.size and value.size % len(own) == 0 and bool((np.abs(value.reshape(-1, len(own)) - own).max(axis=1) < 1e-3).any())
            for own in self._numbers
        )


def _arguments(frame: FrameType) -> list[object]:
    """Without `self`, unless that is a shape."""
    code = frame.f_code
    count = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 4) + bool(code.co_flags & 8)
    names = code.co_varnames[:count]
    return [
        frame.f_locals[name] for name in names if name in frame.f_locals and (name != "self" or _fields(frame.f_locals[name]) is not None)
    ]


def _fields(value: Any) -> list[object] | None:
    """What an object with fields holds; None of any other, say one that does things."""
    if isinstance(value, msgspec.Struct):
        return [getattr(value, name) for name in value.__struct_fields__]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, one.name, None) for one in dataclasses.fields(value)]
    if hasattr(value, "_fields"):
        return list(value)
    if type(value).__name__ == "Call":  # a future of itself, and what a batch is of
        return [getattr(value, "rows", None), getattr(value, "answers", None)]
    return None
