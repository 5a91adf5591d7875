"""One leader among the dispatchers: a lease in Postgres, by its clock, whose term fences whoever had it before.

The leader beats every few seconds, on a thread of its own. Who stands by takes the lead once the beats have stopped for ``LEAD_SECONDS``,
or at once where the leader let go or all of its connections are gone. Taking it ends the connections that the last holder still has, waits
for what it had under way, and begins a new term. Every transaction of a leader asks first whether its term still lasts
(:meth:`Leadership.guard`), and holds a lock against which a taker waits: so nothing of an old term is committed in a new one. A leader that
was stopped and goes on finds its connections closed and its term over, and stands by.
"""

import logging
import os
import threading
from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from db.connect import Store
from db.errors import AnotherSchema, LeadLost

BEAT_SECONDS: Final = 2.0
LEAD_SECONDS: Final = 10.0  # four beats may be late; with a standby's look every 2 s, another leads 12 s after a leader stops
# Longer than any statement may take: a loop that neither came round nor began a transaction meanwhile hangs. In beats, which do not go on
# while the whole process is stopped.
STALL_BEATS: Final = 180
EX_HANG: Final = 75

_LAPSED: Final = """
    (holder IS NULL OR holder = :holder OR beat_at <= clock_timestamp() - make_interval(secs => :lead)
     OR NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.usename = current_user AND a.application_name = leads.sessions))
    """
_FREE: Final = text(f"SELECT term, sessions FROM leads WHERE role = 'dispatcher' AND {_LAPSED}")  # noqa: S608 - a constant
# The server waits for each to end. Only connections of one's own role may be ended.
_END_SESSIONS: Final = text(
    """
    SELECT count(*) FILTER (WHERE pg_terminate_backend(pid, 2000)) FROM pg_stat_activity
    WHERE usename = current_user AND application_name = :sessions AND pid <> pg_backend_pid()
    """
)
_WAIT_FOR_GUARDED: Final = text("LOCK TABLE leads IN EXCLUSIVE MODE")
_TAKE: Final = text(
    f"""
    UPDATE leads SET term = term + 1, holder = :holder, sessions = :sessions, taken_at = clock_timestamp(), beat_at = clock_timestamp()
    WHERE role = 'dispatcher' AND term = :term AND {_LAPSED} RETURNING term
    """  # noqa: S608 - a constant
)
# Of a table, not of a row: it is written nowhere, so that a transaction that only looks costs no more.
_HOLD_OFF_TAKERS: Final = text("LOCK TABLE leads IN ROW SHARE MODE")
_CONFIRM: Final = text("SELECT EXISTS (SELECT FROM leads WHERE role = 'dispatcher' AND term = :term AND holder = :holder)")
# Nothing is lost with a beat, so none is waited for on the disk.
_BEAT: Final = text(
    """
    WITH no_wait AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
    UPDATE leads SET beat_at = clock_timestamp() FROM no_wait WHERE role = 'dispatcher' AND term = :term AND holder = :holder
    """
)
_LET_GO: Final = text("UPDATE leads SET holder = NULL, sessions = NULL WHERE role = 'dispatcher' AND term = :term AND holder = :holder")
_LEADS: Final = text(
    """
    SELECT EXISTS (SELECT FROM leads WHERE role = 'dispatcher' AND holder IS NOT NULL
                   AND beat_at > clock_timestamp() - make_interval(secs => :lead))
    """
)

log = logging.getLogger("textmill.leader")


class Leadership:
    """Asks for the lead, keeps it, and notices when it is gone.

    ``store`` (role dispatcher) names its connections as no other process does; ``name`` is the process's. ``end`` ends a process whose loop
    hangs. The loop calls :meth:`held` and :meth:`give_up`; a thread of this beats.
    """

    def __init__(self, store: Store, name: str, *, end: Callable[[int], object] = os._exit) -> None:
        self._store = store
        self._name = name
        self._end = end
        self._term: int | None = None
        self._loop = threading.get_ident()
        self._beats_since_loop = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lead", daemon=True)

    def start(self) -> None:
        """Begins to beat."""
        self._thread.start()

    def guarded(self) -> Store:
        """The store for what only a leader may do: each of its transactions raises LeadLost where another one leads."""
        return self._store.guarded(self.guard)

    def held(self) -> bool:
        """True while this process leads; tries to take the lead where nobody has it. Raises nothing: no answer means no lead."""
        self._loop, self._beats_since_loop = threading.get_ident(), 0
        try:
            return self._take() if self._term is None else self._confirmed()
        except (SQLAlchemyError, AnotherSchema):
            return False

    def guard(self, connection: Connection) -> None:
        """Begins a transaction that is committed in this process's term or not at all. Raises LeadLost."""
        if threading.get_ident() == self._loop:
            self._beats_since_loop = 0
        connection.execute(_HOLD_OFF_TAKERS)
        if self._term is None or not connection.execute(_CONFIRM, self._mine()).scalar_one():
            raise LeadLost

    def beat(self) -> None:
        """A sign of life, where this process leads and its loop is alive. Raises what the store raises."""
        if self._term is None:
            return
        self._beats_since_loop += 1
        if self._beats_since_loop > STALL_BEATS:
            log.critical("the dispatcher's loop did not come round for %.0f s: it hangs, and this process ends", STALL_BEATS * BEAT_SECONDS)
            self._end(EX_HANG)
            return
        mine = self._mine()
        with self._store.transaction() as conn:
            kept = conn.execute(_BEAT, mine).rowcount == 1
        if not kept:
            self._lose(mine["term"])

    def give_up(self) -> None:
        """Lets others lead at once."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        mine, self._term = self._mine(), None
        if mine["term"] is None:
            return
        try:
            with self._store.transaction() as conn:
                conn.execute(_LET_GO, mine)
        except SQLAlchemyError as error:
            log.info("could not let go of the lead (%s): it runs out", type(error).__name__)

    def _take(self) -> bool:
        us = {"holder": self._name, "sessions": self._store.sessions, "lead": LEAD_SECONDS}
        with self._store.transaction() as conn:
            last = conn.execute(_FREE, us).one_or_none()
            if last is None:
                return False
            if last.sessions is not None and last.sessions != us["sessions"]:
                ended = conn.execute(_END_SESSIONS, {"sessions": last.sessions}).scalar_one()
                if ended:
                    log.warning("the dispatcher that led gave no sign of life; %d connection(s) of it are ended", ended)
            conn.execute(_WAIT_FOR_GUARDED)
            taken = conn.execute(_TAKE, {**us, "term": last.term}).scalar_one_or_none()
        self._term = taken
        if taken is not None:
            log.info("this dispatcher leads")
        return taken is not None

    def _confirmed(self) -> bool:
        mine = self._mine()
        with self._store.transaction() as conn:
            kept = bool(conn.execute(_CONFIRM, mine).scalar_one())
        if not kept:
            self._lose(mine["term"])
        return kept

    def _mine(self) -> dict[str, object]:
        return {"term": self._term, "holder": self._name}

    def _lose(self, term: object) -> None:
        if self._term == term:  # and not one that was taken meanwhile
            self._term = None
            log.warning("another dispatcher leads; this one stands by")

    def _run(self) -> None:
        failing = False
        while not self._closing.wait(BEAT_SECONDS):
            try:
                self.beat()
            except Exception as error:  # a leader that stops beating loses the lead
                if not failing:
                    log.warning("the lead could not be renewed (%s); trying again", type(error).__name__)
                failing = True
            else:
                failing = False


def leads(store: Store) -> bool:
    """Whether somebody leads, and is alive. Role dispatcher."""
    with store.transaction() as conn:
        return bool(conn.execute(_LEADS, {"lead": LEAD_SECONDS}).scalar_one())
