"""What must go, taken away page by page: no transaction is long, a pass is bounded, and whoever comes after one that was cut off, in this
process or in another, goes on with it. What goes, and how a page of it is erased, say :mod:`db.files.purge` and :mod:`db.jobs.purge`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, TypedDict, Unpack

from sqlalchemy import Row

from db.connect import Store
from db.sweeps import Page, Place, sweep

ERASED_AT_ONCE: Final = 10_000  # rows; more of them go in pages, so that no statement is long and nobody waits for it
ITEMS_AT_ONCE: Final = 100  # of a pass
PAGES_AT_ONCE: Final = 50  # of a pass: some seconds


@dataclass(frozen=True, slots=True)
class Lasting:
    """For how many seconds things are kept; None: for ever. ``stale_upload``: an upload that is not finished, since it began. ``files``: of
    an upload that was, since then too. ``results``, with the shards that made them, and ``jobs``: since the job's end."""

    stale_upload: float
    files: float | None = None
    results: float | None = None
    jobs: float | None = None


@dataclass(frozen=True, slots=True)
class Purged:
    """What a pass came to: items that are gone. ``more``: it ended at its limit, and the next one has something to do at once."""

    gone: int
    more: bool


class Limits(TypedDict, total=False):
    """``go_on`` is asked before each page; ``page_rows``, of a transaction; ``pages``, of a pass."""

    go_on: Callable[[], bool]
    page_rows: int
    pages: int


class Purge(ABC):
    """Parameters: ``store`` (role dispatcher), how long things are kept, the limits. Call it from one thread."""

    def __init__(self, store: Store, lasting: Lasting, **limits: Unpack[Limits]) -> None:
        self._store = store
        self._lasting = lasting
        self._go_on = limits.get("go_on", lambda: True)
        self._page_rows = limits.get("page_rows", ERASED_AT_ONCE)
        self._pages = limits.get("pages", PAGES_AT_ONCE)
        self._pages_left = self._pages_done = 0
        self._place = Place()
        self._tried: Row[Any] | None = None

    def run(self) -> Purged:
        """One pass. Raises Unfinished after all others where some items could not be purged."""
        self._pages_left, self._pages_done = self._pages, 0
        found = self._look(self._place)
        self._tried, began = None, replace(self._place)
        try:
            gone = sweep(self._store, found, self._purge)
        finally:
            if self._pages_left <= 0 and self._tried is not None:  # not all were tried
                last = began if self._pages_done else Place(self._tried.at, self._tried.id)
                self._place.at, self._place.id = last.at, last.id
        limited = self._pages_left <= 0 or len(found.items) == found.limit
        return Purged(gone, more=limited and self._pages_done > 0)

    @abstractmethod
    def _look(self, place: Place) -> Page:
        """The items whose time has come, the oldest first."""

    @abstractmethod
    def _erase_page(self, store: Store, item: Row[Any]) -> bool | None:
        """One transaction: True once the item is gone, False where more of it is left, None where its time has not come after all."""

    def _purge(self, store: Store, item: Row[Any]) -> int:
        """1 once the item is gone."""
        while self._pages_left > 0 and self._go_on():
            self._pages_left -= 1
            self._tried = item
            gone = self._erase_page(store, item)
            if gone is None:
                return 0
            self._pages_done += 1
            if gone:
                return 1
        return 0
