"""Keeps the parts of a stack running: starts them, notices the dead, starts those again, and ends all of them in order.

One thread owns everything here (the kernel ties a child to the thread that made it): it calls :meth:`Supervisor.tick` a few times a second.
"""

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from api.local.home.refusals import StackError
from api.local.processes.children import Child
from api.local.processes.parts import Part
from api.local.processes.restarts import Restarts
from db.errors import TextmillError
from workers.host.memory import EX_CEILING, EX_PLANNED

STOPPED_SECONDS: Final = 60.0  # long enough for whoever stops a part to look at it
STOPPED_CHECK_SECONDS: Final = 1.0
START_ATTEMPTS: Final = 3  # before the stack has ever been up: then it is not a crash but a wrong set-up


class State(StrEnum):
    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting"  # it died and is started again soon
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass
class Watched:
    """A part, and what is known of it. ``note`` is why it died last; ``seen_going`` when it was last seen not to be stopped, ``looked_at``
    when that was looked at."""

    part: Part
    state: State = State.STOPPED
    since: float = 0.0
    restarts: Restarts = field(default_factory=Restarts)
    note: str = ""
    seen_going: float = 0.0
    looked_at: float = 0.0

    @property
    def name(self) -> str:
        return self.part.name

    @property
    def pid(self) -> int | None:
        alive = self.part.child is not None and self.part.child.exit_code() is None
        return self.part.child.pid if alive and self.part.child else None


class Supervisor:
    """``tell`` gets one line a change, for people; ``ended`` each part whose process was found dead or had to be killed, with its pid.
    ``clock`` is monotonic, in seconds."""

    def __init__(
        self,
        tell: Callable[[str], None],
        *,
        ended: Callable[[Part, int], None] = lambda _part, _pid: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tell = tell
        self._ended = ended
        self._clock = clock
        self.watched: list[Watched] = []
        self.changes = 0  # counts up at every change: who publishes the state compares

    def start(self, part: Part) -> None:
        """Raises StackError where it does not start at all."""
        watched = Watched(part)
        self.watched.append(watched)
        try:
            part.start()
        except StackError:
            self.watched.remove(watched)
            part.stop(hurry=True)
            raise
        self._move(watched, State.STARTING)

    def tick(self) -> None:
        for watched in self.watched:
            self._look_at(watched)

    @property
    def all_running(self) -> bool:
        return all(watched.state is State.RUNNING for watched in self.watched)

    def hopeless(self) -> Watched | None:
        """A part that has died at every attempt so far; asked only until the stack has been up once."""
        return next((watched for watched in self.watched if watched.restarts.in_a_row >= START_ATTEMPTS), None)

    def stop(self, stages: Sequence[Sequence[str]], hurried: Callable[[], bool]) -> None:
        """Ends the parts named in each stage together, one stage after the other; whoever overstays its grace is killed."""
        for stage in stages:
            parts = [watched for watched in self.watched if watched.name in stage]
            for watched in parts:
                self._move(watched, State.STOPPING)
                watched.part.signal_end(hurry=hurried())
            until = self._clock() + max((watched.part.grace_seconds for watched in parts), default=0.0)
            while any(watched.pid for watched in parts) and self._clock() < until and not hurried():
                time.sleep(0.02)
            for watched in parts:
                late = watched.pid
                watched.part.stop(hurry=late is not None)
                if late is not None:
                    self._ended(watched.part, late)
                watched.note = "did not end in time, killed" if late else ""
                self._move(watched, State.STOPPED)

    def _look_at(self, watched: Watched) -> None:
        now = self._clock()
        if watched.state is State.WAITING:
            if now - watched.since >= watched.restarts.delay_seconds:
                self._start_again(watched)
        elif watched.state in (State.STARTING, State.RUNNING):
            child = watched.part.child
            code = child.exit_code() if child else None
            if child is not None and code is not None:
                self._ended(watched.part, child.pid)
                self._bury(watched, code)
            elif child is not None and self._stands_still(watched, child, now):
                self._tell(f"{watched.name} has been stopped for {STOPPED_SECONDS:.0f} s (SIGSTOP): it is killed, and started again")
                child.signal(signal.SIGKILL)
            elif watched.state is State.STARTING and watched.part.is_ready():
                self._move(watched, State.RUNNING)

    def _stands_still(self, watched: Watched, child: Child, now: float) -> bool:
        """A process that is stopped watches over itself no more, and holds what it held for ever."""
        if now - watched.looked_at >= STOPPED_CHECK_SECONDS:
            watched.looked_at = now
            if not child.is_stopped():
                watched.seen_going = now
        return now - watched.seen_going >= STOPPED_SECONDS

    def _bury(self, watched: Watched, code: int) -> None:
        words = watched.part.last_words()
        if code != EX_PLANNED:
            # Its ceiling ends it at every start, however long that takes: each counts as one more in a row.
            self._died(watched, ended_how(code, words), ran_seconds=0.0 if code == EX_CEILING else None)
            return
        watched.restarts = watched.restarts.after_planned(self._clock() - watched.since)
        told = f"{watched.name} restarts as planned" + (f" ({words})" if words else "")
        if watched.restarts.delay_seconds == 0:
            self._tell(told)
            self._start_again(watched)
        else:
            self._move(watched, State.WAITING, f"{told} · starting it again in {watched.restarts.delay_seconds:g} s")

    def _start_again(self, watched: Watched) -> None:
        try:
            watched.part.start()
        except (TextmillError, OSError) as error:
            self._died(watched, error.message if isinstance(error, TextmillError) else (error.strerror or "the operating system refused"))
            return
        self._move(watched, State.STARTING)

    def _died(self, watched: Watched, why: str, *, ran_seconds: float | None = None) -> None:
        watched.restarts = watched.restarts.after_crash(self._clock() - watched.since if ran_seconds is None else ran_seconds)
        watched.note = why
        self._move(watched, State.WAITING)

    def _move(self, watched: Watched, state: State, told: str | None = None) -> None:
        watched.state, watched.since = state, self._clock()
        watched.seen_going = watched.since
        self.changes += 1
        self._tell(told or describe(watched))


def describe(watched: Watched) -> str:
    if watched.state is State.WAITING:
        return f"{watched.name} died: {watched.note} · starting it again in {watched.restarts.delay_seconds:g} s"
    pid = f" (pid {watched.pid})" if watched.pid else ""
    note = f": {watched.note}" if watched.note and watched.state is State.STOPPED else ""
    return f"{watched.name} {watched.state}{pid}{note}"


def ended_how(code: int, last_words: str) -> str:
    """An exit code in words."""
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        how = f"killed by {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")
    else:
        how = f"it ended with exit code {code}"
        how += ": it passed its memory ceiling soon after its start, raise TEXTMILL_MAX_MEMORY_MB" if code == EX_CEILING else ""
    return f"{how} ({last_words})" if last_words else how
