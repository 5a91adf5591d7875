"""How large a result file is. It is made as it is read, and what is stored of it is padded, so that only making it tells.

A count opens the results, and is on record as a reading of them. So it is made where somebody asks who may read them, once for a file in
this process, and up to a budget: what is larger is told from its first rows, and said to be so.
"""

from dataclasses import dataclass
from itertools import islice
from typing import Final

from api.requests.front import Front
from api.streams.downloads import result_lines
from db.actors import Actor
from db.errors import Conflict, NotFound
from db.jobs.file_lists import ResultFile
from db.jobs.results import PAGE_ROWS

BUDGET_ROWS: Final = 20_000  # of one request: some tenths of a second
SAMPLE_ROWS: Final = 200  # from which a larger file is told; also what a look at a small one costs


@dataclass(frozen=True, slots=True)
class Size:
    """``exact``: counted, and not told from some of its rows, or unknown."""

    bytes: int = 0
    exact: bool = False


class Budget:
    """Rows that one request may count."""

    def __init__(self) -> None:
        self._left = BUDGET_ROWS

    def take(self, rows: int) -> int:
        """How many of so many rows may be counted: all, some of the first, or none."""
        counted = rows if rows <= self._left else min(SAMPLE_ROWS, rows)
        if max(counted, SAMPLE_ROWS) > self._left:
            return 0
        self._left -= max(counted, SAMPLE_ROWS)
        return counted


def size_of(front: Front, actor: Actor, file: ResultFile, budget: Budget) -> Size:
    """Of no more than nothing, for who may not read."""
    if not actor.may_read:
        return Size()
    if (known := front.sizes.get(file)) is not None:
        return Size(known, exact=True)
    rows = budget.take(file.row_count) if file.complete else 0
    if not rows:
        return Size()
    try:
        lines = result_lines(front.store, actor, file.job_id, file.which, page=min(rows, PAGE_ROWS))
        counted = sum(map(len, islice(lines, rows)))
    except (Conflict, NotFound):  # deleted or run again since it was listed
        return Size()
    if rows < file.row_count:
        return Size(round(counted * file.row_count / rows))
    front.sizes.put(file, counted)
    return Size(counted, exact=True)
