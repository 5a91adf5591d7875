"""How far a job is: a bar on a terminal, a line now and then elsewhere. Speed and time left are counted over a short window, because the
first rows of a job wait for a model to load. Of a job that writes texts both go by tokens: what is left is as long as what was written."""

import sys
import time
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self

from api.cli.terminal.terminal import console, say

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

WINDOW_SECONDS: Final = 10.0
LEAST_SECONDS: Final = 3.0
LEAST_STEPS: Final = 2
PLAIN_LINE_SECONDS: Final = 5.0


class Pace:
    """Rows a second (or tokens, or bytes) from what was seen in the last window, from the first on: what was before them was no work but a
    model that loads. Pure: the clock is passed in."""

    def __init__(self, window_seconds: float = WINDOW_SECONDS) -> None:
        self._window_seconds = window_seconds
        self._seen: deque[tuple[float, int]] = deque()
        self._moved = False

    def note(self, now_seconds: float, done: int) -> None:
        if not self._moved:
            self._moved = bool(self._seen) and done > self._seen[-1][1]
            self._seen.clear()
        self._seen.append((now_seconds, done))
        if not self._moved:
            return
        while len(self._seen) > 2 and now_seconds - self._seen[1][0] >= self._window_seconds:
            self._seen.popleft()

    @property
    def per_second(self) -> float | None:
        if len(self._seen) < 2 or not self._moved:
            return None
        (first, before), (last, after) = self._seen[0], self._seen[-1]
        return (after - before) / (last - first) if last > first and after > before else None

    def seconds_left(self, total: int) -> float | None:
        """None before it can be told: rows come in bursts, and two of them, close to each other, say nothing."""
        speed = self.per_second
        steps = len({done for _, done in self._seen}) - 1
        if speed is None or steps < LEAST_STEPS or self._seen[-1][0] - self._seen[0][0] < LEAST_SECONDS:
            return None
        return max(0, total - self._seen[-1][1]) / speed


class Speeds:
    """Of rows, and of the tokens that they were answered with, where any were."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._rows = Pace()
        self._tokens = Pace()
        self._seen = (0, 0)

    def note(self, now_seconds: float, done: int, tokens: int) -> None:
        self._rows.note(now_seconds, done)
        self._tokens.note(now_seconds, tokens)
        self._seen = done, tokens

    def told(self, total: int | None) -> list[str]:
        """The speed, and the time that is left, as far as they are known."""
        done, tokens = self._seen
        pace, unit = (self._tokens, "tokens") if tokens else (self._rows, self._unit)
        if (speed := pace.per_second) is None:
            return []
        told = [f"{speed:,.0f} {unit}/s" if unit != "bytes" else f"{amount(round(speed), unit)}/s"]
        if total and total > done and (left := self.seconds_left(total)) is not None:
            told.append(f"{clock(left)} left")
        return told

    def seconds_left(self, total: int) -> float | None:
        """Of so many rows; texts are as long as those that there are."""
        done, tokens = self._seen
        return self._tokens.seconds_left(round(tokens * total / done)) if tokens and done else self._rows.seconds_left(total)


class Progress(Protocol):
    """A job's progress. ``unit`` names what is counted; ``tokens``: what was written for it so far."""

    def __enter__(self) -> Self: ...
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...
    def update(self, done: int, total: int | None, note: str = "", tokens: int = 0) -> None: ...


class Silent:
    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def update(self, done: int, total: int | None, note: str = "", tokens: int = 0) -> None:
        pass


class PlainLines(Silent):
    """For logs and pipes: one line every few seconds, and one at the end."""

    def __init__(self, title: str, *, unit: str, every_seconds: float = PLAIN_LINE_SECONDS) -> None:
        self._title = title
        self._unit = unit
        self._every_seconds = every_seconds
        self._speeds = Speeds(unit)
        self._said = time.monotonic()
        self._last: tuple[int, int | None, str] | None = None
        self._unsaid = False

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._unsaid:
            self._say()

    def update(self, done: int, total: int | None, note: str = "", tokens: int = 0) -> None:
        now = time.monotonic()
        self._speeds.note(now, done, tokens)
        self._unsaid |= (done, total, note) != self._last
        self._last = (done, total, note)
        if self._unsaid and now - self._said >= self._every_seconds:
            self._said = now
            self._say()

    def _say(self) -> None:
        if self._last is None:
            return
        done, total, note = self._last
        parts = [f"{amount(done, self._unit)} of {amount(total, self._unit)}" if total else amount(done, self._unit)]
        parts += self._speeds.told(total) if self._unit == "rows" else []
        if note:
            parts.append(note)
        say(f"{self._title}: {', '.join(parts)}")
        self._unsaid = False


class Waits(Silent):
    """For logs and pipes, where the answer itself is soon there: only what it waits for, once it has waited; each reason once."""

    def __init__(self, title: str, *, after_seconds: float = PLAIN_LINE_SECONDS) -> None:
        self._title = title
        self._says_from = time.monotonic() + after_seconds
        self._said: set[str] = set()

    def update(self, done: int, total: int | None, note: str = "", tokens: int = 0) -> None:
        reason = note.partition(" (")[0]  # without its seconds
        if reason and reason not in self._said and time.monotonic() >= self._says_from:
            self._said.add(reason)
            say(f"{self._title}: {reason}")


class LiveBar:
    """For a terminal."""

    def __init__(self, title: str, *, unit: str) -> None:
        from rich.progress import BarColumn, SpinnerColumn, TextColumn
        from rich.progress import Progress as Rich

        self._unit = unit
        self._speeds = Speeds(unit)
        self._rich: RichProgress = Rich(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=32),
            TextColumn("{task.fields[counts]}", markup=False),
            TextColumn("{task.fields[speed]}", markup=False),
            TextColumn("{task.fields[note]}", markup=False),
            console=console(stderr=True),
            transient=False,
        )
        self._task = self._rich.add_task(title, total=None, counts="", speed="", note="")

    def __enter__(self) -> Self:
        self._rich.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._rich.stop()

    def update(self, done: int, total: int | None, note: str = "", tokens: int = 0) -> None:
        self._speeds.note(time.monotonic(), done, tokens)
        counts = f"{amount(done, self._unit)} of {amount(total, self._unit)}" if total else amount(done, self._unit)
        speed = "  ".join(self._speeds.told(total))
        self._rich.update(self._task, completed=done, total=total or None, counts=counts, speed=speed, note=note)


def show_progress(title: str, *, unit: str = "rows", quiet: bool = False, single: bool = False) -> Progress:
    """``single``: there is one row, of which no count tells anything."""
    if quiet:
        return Silent()
    if sys.stderr.isatty():
        return LiveBar(title, unit=unit)
    return Waits(title) if single else PlainLines(title, unit=unit)


def amount(count: int | None, unit: str) -> str:
    if unit != "bytes":
        return f"{count or 0:,}"
    size = float(count or 0)
    for name in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {name}" if name == "B" else f"{size:.1f} {name}"
        size /= 1000
    return f"{size:.1f} GB"


def clock(seconds: float) -> str:
    """5 s, 4:05, 2:03:09."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
