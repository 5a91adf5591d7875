"""Going through what a query found, one transaction each: what cannot be done now keeps nobody waiting who stands behind it.

A pass of a sweep looks at one page of items, in the order of a key. Where some of a full page could not be done, the next pass begins
behind it, and at the first again once there is nothing behind. One whose rows somebody holds (a writer that was frozen, an admin) is
waited for briefly and left to the next round, and so is one that fails in any other way. Only where the database itself is away does the
sweep end.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, TextClause, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from db.connect import Store
from db.errors import LeadLost

WAIT_MS: Final = 500  # for a lock that somebody else holds
BRIEF_MS: Final = 20
WAITED_FOR: Final = 4  # items of a sweep that are waited for so long; after them, BRIEF_MS: a table that an admin locks holds every item
TOLD_AT_ONCE: Final = 3  # log lines of a sweep

# https://www.postgresql.org/docs/18/errcodes-appendix.html: the connection, resources, a shutdown, the operating system, a server that is
# no primary (any more). Every other item would meet the same.
_AWAY: Final = ("08", "53", "57P", "58", "25006")

log = logging.getLogger("textmill.store")


class Unfinished(Exception):
    """Raised after a sweep whose other items were done. ``done``: what these came to; ``left``: how many could not be done now."""

    def __init__(self, done: int, left: int) -> None:
        super().__init__(f"{left} could not be moved and wait for the next round")
        self.done = done
        self.left = left


@dataclass(slots=True)
class Place:
    """Behind which item the next pass begins: by its key (``at``, ``id``), or at the first. Whoever sweeps again and again keeps one; it is
    in memory alone, because a pass from the first is never wrong."""

    at: object = None
    id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """What a pass looks at: of a query made by :func:`paged`, at most ``limit`` items."""

    items: Sequence[Row[Any]]
    limit: int
    place: Place

    @classmethod
    def look(cls, store: Store, query: TextClause, place: Place | None, *, limit: int, **asked: object) -> "Page":
        place = place or Place()
        with store.transaction() as conn:
            items = list(conn.execute(query, {**asked, "after": place.at, "after_id": place.id, "limit": limit}))
            if not items and place.id is not None:
                place.at = place.id = None
                items = list(conn.execute(query, {**asked, "after": None, "after_id": None, "limit": limit}))
        return cls(items, limit, place)

    def leave(self, done: int) -> None:
        """After all items were tried and ``done`` of them moved."""
        behind = len(self.items) == self.limit and done < self.limit
        self.place.at, self.place.id = (self.items[-1].at, self.items[-1].id) if behind else (None, None)


def paged(found: str, kind: str) -> TextClause:
    """A page of ``found``, a query whose columns ``at`` (of the SQL type ``kind``) and ``id`` are its key, behind a place."""
    behind = f"(CAST(:after_id AS uuid) IS NULL OR (found.at, found.id) > (CAST(:after AS {kind}), CAST(:after_id AS uuid)))"
    return text(f"SELECT * FROM ({found}) AS found WHERE {behind} ORDER BY found.at, found.id LIMIT :limit")  # noqa: S608 - constants


def sweep(store: Store, page: Page, move: Callable[[Store, Row[Any]], int]) -> int:
    """The sum of what ``move`` returns for each item, 1 or more where it is done; it opens a transaction of the store that it is given.

    Raises Unfinished once all were tried, or at once what says that the database is away or that another dispatcher leads.
    """
    total = done = left = 0
    patient, hurried = store.hurried(WAIT_MS), store.hurried(BRIEF_MS)
    for item in page.items:
        try:
            moved = move(patient if left < WAITED_FOR else hurried, item)
            total, done = total + moved, done + bool(moved)
        except Exception as error:
            if _is_away(error):
                raise
            left += 1
            if left <= TOLD_AT_ONCE:  # the text of an error of the driver may quote what it was given
                kind = error.orig if isinstance(error, DBAPIError) else error
                log.warning("%s could not be moved now (%s); the others go on", item.id, type(kind).__name__)
    page.leave(done)
    if left:
        raise Unfinished(total, left)
    return total


def _is_away(error: Exception) -> bool:
    if isinstance(error, PoolTimeout | LeadLost):  # of the latter: to this process, which must not go on
        return True
    if not isinstance(error, DBAPIError):
        return False
    state = getattr(error.orig, "sqlstate", None)
    return error.connection_invalidated or state is None or str(state).startswith(_AWAY)
