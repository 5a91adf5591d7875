"""What `textmill up` shows: where everything is, once; then a live table on a terminal, and one line a change elsewhere."""

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from api.local.processes.supervisor import State, Watched
from db.operators.queue_gauge import Counts

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

STYLES: Final = {State.RUNNING: "green", State.STARTING: "yellow", State.WAITING: "red", State.STOPPING: "yellow", State.STOPPED: "dim"}


class Display:
    """``live``: whether stderr is a terminal that can be redrawn."""

    def __init__(self, *, live: bool | None = None) -> None:
        self._is_live = sys.stderr.isatty() if live is None else live
        self._live: Live | None = None

    @property
    def is_live(self) -> bool:
        return self._is_live

    def places(self, places: Sequence[tuple[str, str]]) -> None:
        """The short table: name and address, one a line, on stdout."""
        width = max(len(name) for name, _ in places)
        for name, place in places:
            print(f"{name:<{width}}  {place}")
        sys.stdout.flush()

    def tell(self, line: str) -> None:
        """One change. On a terminal the table shows it; there only a death, and what follows from it, stays in the scrollback."""
        if self._is_live and not any(sign in line for sign in (" died: ", " is dead: ", " restarts as planned")):
            return
        stamped = f"{time.strftime('%H:%M:%S')} {line}"
        if self._live is not None:
            self._live.console.print(stamped, markup=False, highlight=False)
        else:
            print(stamped, file=sys.stderr, flush=True)

    def show(self, watched: Sequence[Watched], counts: Counts | None) -> None:
        """Redraws; nothing where stderr is no terminal."""
        if not self._is_live:
            return
        drawn = self._drawn(watched, counts)
        if self._live is None:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(drawn, console=Console(stderr=True, markup=False, highlight=False), auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(drawn, refresh=True)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _drawn(self, watched: Sequence[Watched], counts: Counts | None) -> "Table":
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=_said(counts), caption_justify="left")
        for name in ("PART", "STATE", "PID", "RESTARTS", "LAST DEATH"):
            table.add_column(name, justify="right" if name in ("PID", "RESTARTS") else "left", overflow="ellipsis")
        for each in watched:
            table.add_row(
                each.name,
                Text(each.state.value, STYLES[each.state]),
                str(each.pid or ""),
                str(each.restarts.total or ""),
                Text(each.note, "red" if each.state is State.WAITING else "dim", no_wrap=True, overflow="ellipsis"),
            )
        return table


def _said(counts: Counts | None) -> str:
    if counts is None:
        return "Ctrl-C drains and stops."
    return (
        f"{counts.jobs} jobs live · {counts.ready} shards waiting, {counts.leased} running · {counts.rows_done:,} rows done, "
        f"{counts.rows_per_second:,.0f} rows/s · Ctrl-C drains and stops."
    )
