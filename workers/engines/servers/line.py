"""The requests to one server: which are under way, which wait, and what becomes of those that fail. One thread, an event loop, owns all of
it.

As many are under way as the window says. One that the server failed on waits and is asked again, until the server answers it, refuses it,
or must be said to fail on it alone, or to have too much to do for it alone (`blame`). A server that answers nothing for
``patience_seconds`` is **away**: all requests are given up with EngineAway, which is nobody's fault, and so is what comes before it is time
to ask again; then one is under way at a time until the first answer.
"""

import asyncio
import contextlib
import hashlib
import logging
import random
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import Any, Final, TypeVar

from workers.batches.outcomes import EngineAway, FailedRow
from workers.engines.servers.blame import Blame, Suspicion, pause_seconds
from workers.engines.servers.shapes import refusal
from workers.engines.servers.window import Window
from workers.engines.servers.wire import Busy, Refused, Trouble, Wire
from workers.loop_guard import Guard, on_duty
from workers.models.server_entry import ServerEntry

# Parts of the operator's patience:
LONGEST_PAUSE: Final = 0.25
FIRST_AWAY: Final = 0.1
LONGEST_AWAY: Final = 3.0

LONGEST_WISH_SECONDS: Final = 900.0  # of a retry-after: what a server may ask for
LONGEST_LONE_PAUSE_SECONDS: Final = 60.0  # of one row that the server has too much to do for, and answers others
NARROW_SECONDS: Final = 1.0  # without an answer, after the first failure: one at a time
CLOSE_SECONDS: Final = 5.0
SUSPICIONS: Final = 10_000
TICK_SECONDS: Final = 1.0

log = logging.getLogger("textmill.servers")
T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Request:
    """``read``: what the body of an answer says, and its size for the window; raises Trouble where it says nothing. ``refused``: the
    failure of what the server refused, with this status and this body. ``done`` is called once, on the line's thread, and must be
    quick; not where the request was cancelled.
    """

    path: str
    body: bytes
    read: Callable[[bytes], tuple[Any, float]]
    refused: Callable[[int, bytes], FailedRow]
    done: Callable[[Any], object]
    suspicion: Suspicion = field(default_factory=Suspicion)
    is_control: bool = False
    over: bool = False

    @property
    def digest(self) -> bytes:
        return hashlib.blake2b(self.body, digest_size=16, person=b"tm-request").digest()


class Line:
    """``control``: something harmless to ask of a path. A request's `done` gets what its `read` gave, FailedRow, or EngineAway.
    ``on_hang``: told of a server that hangs."""

    def __init__(
        self, entry: ServerEntry, wire: Callable[[], Wire], control: Callable[[str], Request], on_hang: Callable[[], object]
    ) -> None:
        self._entry = entry
        self._control = control
        self._on_hang = on_hang
        self._window = Window()
        self._blame = Blame()
        self._suspicions: OrderedDict[bytes, Suspicion] = OrderedDict()
        self._waiting: list[tuple[float, int, Request]] = []  # a heap, by when it may be asked
        self._number = 0
        self._under_way: dict[Request, asyncio.Task[None]] = {}
        self._paused_until = 0.0
        self._failing_since: float | None = None
        self._failed_at = 0.0
        self._busy_in_a_row = 0
        self._away_until = 0.0
        self._away_seconds = FIRST_AWAY * entry.patience_seconds
        self._longest_away_seconds = LONGEST_AWAY * entry.patience_seconds
        self._last_sign = time.monotonic()
        self._wake: asyncio.TimerHandle | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = on_duty(self._loop.run_forever, f"{entry.id}-line")
        self._thread.start()
        try:
            self._wire = self.run(self._open(wire))
        except BaseException:
            self._loop.call_soon_threadsafe(self._loop.stop)
            raise

    # From any thread.

    @property
    def width(self) -> int:
        return self._window.width

    @property
    def away_seconds(self) -> float:
        """How long the server shall not be asked; 0 where it may be."""
        return max(0.0, self._away_until - time.monotonic())

    def ask(self, request: Request) -> None:
        self._loop.call_soon_threadsafe(self._take, request)

    def cancel(self, request: Request) -> None:
        """Its `done` may still be called, if it is on its way."""
        self._loop.call_soon_threadsafe(self._forget, request)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """On the line's loop, waited for here."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def close(self) -> None:
        """Nothing more is asked; what is under way is given up."""
        if not self._thread.is_alive():
            return
        if threading.current_thread() is self._thread:  # the collector may come by on any
            self._loop.call_soon(self._loop.stop)
            return
        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(CLOSE_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_SECONDS)

    # On the line's thread.

    async def _open(self, wire: Callable[[], Wire]) -> Wire:
        self._ticking = asyncio.get_running_loop().create_task(self._tick())
        return wire()

    async def _end(self) -> None:
        self._ticking.cancel()
        self._give_up_all(0.0)
        await self._wire.close()

    def _take(self, request: Request) -> None:
        if (seconds := self.away_seconds) > 0:
            self._finish(request, EngineAway(seconds))
            return
        if not self._under_way and not self._waiting and time.monotonic() - self._failed_at > self._longest_away_seconds:
            self._failing_since = None  # that was another day
        if not request.is_control:
            request.suspicion = self._suspicions.get(request.digest, request.suspicion)
        self._put(request, 0.0)
        self._pump()

    def _forget(self, request: Request) -> None:
        request.over = True
        self._waiting = [one for one in self._waiting if one[2] is not request]
        heapify(self._waiting)
        if (task := self._under_way.pop(request, None)) is not None:
            task.cancel()
        self._pump()

    def _put(self, request: Request, pause: float) -> None:
        self._number += 1
        heappush(self._waiting, (time.monotonic() + pause, self._number, request))

    def _pump(self) -> None:
        """Sends what may be sent now, and comes again when more may be."""
        now = time.monotonic()
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        while self._waiting and now >= self._paused_until and self._waiting[0][0] <= now and self._has_place(self._waiting[0][2], now):
            request = heappop(self._waiting)[2]
            if not request.is_control and self._blame.needs_control(request.suspicion):
                self._put(request, TICK_SECONDS / 10)
                if any(one.is_control for one in self._under_way):
                    break
                request = self._control(request.path)
            self._send(request, now)
        if self._waiting and not self._under_way and self._paused_until - now >= self._entry.patience_seconds:
            self._leave("it has too much to do", self._paused_until - now)
        if self._waiting:
            at = max(self._paused_until, self._waiting[0][0])
            if at > now:
                self._wake = self._loop.call_later(at - now, self._pump)

    def _has_place(self, request: Request, now: float) -> bool:
        if request.suspicion.alone:
            return not self._under_way
        if any(one.suspicion.alone for one in self._under_way):
            return False
        is_narrow = self._failing_since is not None and now - self._failing_since >= NARROW_SECONDS
        return len(self._under_way) < (1 if is_narrow else self._window.width)

    def _send(self, request: Request, now: float) -> None:
        if not self._under_way:
            self._window.begin(now)
            self._last_sign = now
        self._under_way[request] = self._loop.create_task(self._answer(request))

    async def _answer(self, request: Request) -> None:
        try:
            reply = await self._wire.post(request.path, request.body, seconds=self._entry.timeout_seconds)
            answer, size = request.read(reply)
        except asyncio.CancelledError:
            return
        except Busy as busy:
            self._on_busy(request, busy)
        except Refused as refused:
            self._on_reply(request, time.monotonic())
            self._finish(request, request.refused(refused.status, refused.reply))
        except Trouble as trouble:
            self._on_trouble(request, trouble, in_company=len(self._under_way) > 1)
        except Exception as error:  # a fault of our own in reading: its message may hold the answer
            log.error("%s: an answer could not be read (%s)", self._entry.id, type(error).__name__)
            self._on_trouble(request, Trouble("nonsense"), in_company=False)
        else:
            self._on_answer(request, answer, size)
        self._pump()

    def _on_answer(self, request: Request, answer: object, size: float) -> None:
        now = time.monotonic()
        if not request.is_control:
            self._window.answered(now, size, full=len(self._under_way) >= self._window.width)
        self._on_reply(request, now)
        self._finish(request, answer)

    def _on_reply(self, request: Request, now: float) -> None:
        """The server does what it is for: answering, or refusing."""
        self._drop(request)
        self._blame.succeeded(now)
        self._suspicions.pop(request.digest, None)
        first_away_seconds = FIRST_AWAY * self._entry.patience_seconds
        if self._away_seconds > first_away_seconds:
            log.info("%s: the server answers again", self._entry.id)
        self._last_sign, self._failing_since = now, None
        self._busy_in_a_row, self._away_seconds = 0, first_away_seconds

    def _on_busy(self, request: Request, busy: Busy) -> None:
        wish = busy.seconds
        now, suspicion = time.monotonic(), request.suspicion
        self._last_sign = now
        self._drop(request)
        if not request.is_control:
            self._blame.busy(now, suspicion)
        if suspicion.certain:
            log.warning("%s: the server has too much to do for one row, and for no other", self._entry.id)
            self._finish(request, refusal(busy.status))
        elif suspicion.alone and wish is None:  # it waits, and nothing else waits for it
            self._again(request, pause_seconds(suspicion.busies, LONGEST_LONE_PAUSE_SECONDS, 1.0))
        else:
            self._window.refused(now)
            self._busy_in_a_row += 1
            pause = self._pause(self._busy_in_a_row) if wish is None else min(wish, LONGEST_WISH_SECONDS)
            self._paused_until = max(self._paused_until, now + pause)
            self._again(request, 0.0)
            self._note_failure(now, "it has too much to do")

    def _on_trouble(self, request: Request, trouble: Trouble, *, in_company: bool) -> None:
        now = time.monotonic()
        self._drop(request)
        if trouble.status is not None:
            self._last_sign = now
        pause = self._pause(request.suspicion.failures + 1)
        if request.is_control or trouble.why in {"unreachable", "certificate", "misdirected"}:  # no row was looked at
            self._busy_in_a_row += 1
            pause = self._pause(self._busy_in_a_row)
            self._paused_until = max(self._paused_until, now + pause)
        else:
            lost = trouble.why in {"lost", "slow"}
            self._blame.failed(now, request.suspicion, lost=lost, alone=not in_company)
            if request.suspicion.certain:
                log.warning("%s: the server fails on one row, and on no other", self._entry.id)
                self._finish(request, FailedRow("engine_error"))
                return
        self._again(request, pause)
        self._note_failure(now, trouble.told)

    def _pause(self, failures: int) -> float:
        return pause_seconds(failures, LONGEST_PAUSE * self._entry.patience_seconds, random.random())  # noqa: S311 - spreads load

    def _again(self, request: Request, pause: float) -> None:
        if request.is_control:  # asked anew where it is needed
            return
        if request.suspicion.failures or request.suspicion.busies:
            self._suspicions[request.digest] = request.suspicion
            if len(self._suspicions) > SUSPICIONS:
                self._suspicions.popitem(last=False)
        self._put(request, pause)

    def _note_failure(self, now: float, why: str) -> None:
        """What is under way may still be answered: a slow server that has too much is not away."""
        self._failed_at = now
        if self._failing_since is None:
            self._failing_since = now
        if not self._under_way and now - self._failing_since >= self._entry.patience_seconds:
            self._leave(why, 0.0)

    def _leave(self, why: str, pause: float) -> None:
        seconds = max(self._away_seconds, pause)
        self._away_seconds = min(self._longest_away_seconds, 2 * self._away_seconds)
        log.warning("%s: the server is away: %s. It is asked again in %.0f s", self._entry.id, why, seconds)
        self._give_up_all(seconds)

    def _give_up_all(self, seconds: float) -> None:
        self._away_until = time.monotonic() + seconds
        given_up = [one for *_, one in self._waiting] + list(self._under_way)
        for task in self._under_way.values():
            task.cancel()
        self._waiting.clear()
        self._under_way.clear()
        for request in given_up:
            self._finish(request, EngineAway(seconds))

    def _drop(self, request: Request) -> None:
        self._under_way.pop(request, None)

    def _finish(self, request: Request, answer: object) -> None:
        if not request.over:
            request.over = True
            request.done(answer)

    async def _tick(self) -> None:
        """Finds a server that hangs: no sign of life, not even when it is asked for one."""
        guard = Guard(log, f"{self._entry.id}: the look whether its server hangs")
        while True:
            await asyncio.sleep(min(TICK_SECONDS, self._entry.hang_seconds / 4))
            with guard:
                await self._look_for_life(self._entry.hang_seconds / 2)

    async def _look_for_life(self, half: float) -> None:
        if not self._under_way or time.monotonic() - self._last_sign < half:
            return
        if await self._wire.lives(half):
            self._last_sign = time.monotonic()
        elif self._under_way and time.monotonic() - self._last_sign >= half:
            log.warning("%s: the server hangs", self._entry.id)
            self._on_hang()
            self._lose_all()

    def _lose_all(self) -> None:
        under_way = list(self._under_way.items())
        for _, task in under_way:
            task.cancel()
        for request, _ in under_way:
            if request in self._under_way:  # unless the server was found to be away meanwhile
                self._on_trouble(request, Trouble("lost"), in_company=len(under_way) > 1)
        self._pump()
