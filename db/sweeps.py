"""Going through what a query found, one transaction each: what cannot be done now keeps nobody waiting who stands behind it.

A sweep finds its items in the same order every round. One whose rows somebody holds (a writer that was frozen, an admin) is waited for
briefly and left to the next round, and so is one that fails in any other way. Only where the database itself is away does the sweep end.
"""

import logging
from collections.abc import Callable, Iterable
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from db.connect import Store

WAIT_MS: Final = 500  # for a lock that somebody else holds
WAITED_FOR: Final = 4  # items of a sweep that are waited for so long; after them, BRIEF_MS: a table that an admin locks holds every item
BRIEF_MS: Final = 20
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


def sweep(store: Store, items: Iterable[Row[Any]], move: Callable[[Store, Row[Any]], int], name: Callable[[Row[Any]], UUID]) -> int:
    """The sum of what ``move`` returns for each item; it opens a transaction of the store that it is given. ``name``: the item's id.

    Raises Unfinished once all were tried, or at once what says that the database is away.
    """
    done = left = 0
    patient, hurried = store.hurried(WAIT_MS), store.hurried(BRIEF_MS)
    for item in items:
        try:
            done += move(patient if left < WAITED_FOR else hurried, item)
        except Exception as error:
            if _is_away(error):
                raise
            left += 1
            if left <= TOLD_AT_ONCE:  # the text of an error of the driver may quote what it was given
                kind = error.orig if isinstance(error, DBAPIError) else error
                log.warning("%s could not be moved now (%s); the others go on", name(item), type(kind).__name__)
    if left:
        raise Unfinished(done, left)
    return done


def _is_away(error: Exception) -> bool:
    if isinstance(error, PoolTimeout):
        return True
    if not isinstance(error, DBAPIError):
        return False
    state = getattr(error.orig, "sqlstate", None)
    return error.connection_invalidated or state is None or str(state).startswith(_AWAY)
