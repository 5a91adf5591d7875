"""Looks at each job that has ended, at every row of it, and removes it, so that the disk holds what is open and little more. One thread."""

import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final
from uuid import UUID

from db.connect import Store
from db.errors import NotFound
from db.files import files
from db.jobs import jobs
from db.lifecycle import LIVE_JOBS, JobState
from tests.faults.counters import Calls, Counters, Load, Outcome, check
from tests.faults.soak.ledger import Ledger, Sent
from tests.faults.soak.patience import patiently

LOOK_SECONDS: Final = 0.5


class Checker:
    """``states`` gives the jobs' states. What it finds adds up in ``outcomes``, ``rows`` and ``calls``."""

    def __init__(self, store: Store, ledger: Ledger, states: Callable[[list[UUID]], dict[UUID, str]], say: Callable[[str], None]) -> None:
        self._store = store
        self._ledger = ledger
        self._states = states
        self._say = say
        self._found: Counter[str] = Counter()  # by the names of ALWAYS_ZERO
        self._calls = Calls()
        self.kept: set[UUID] = set()
        self.ended: Counter[str] = Counter()  # jobs by their state
        self.rows = 0  # of the null model
        self.real_rows = 0

    def run(self, stop: threading.Event) -> None:
        while not stop.wait(LOOK_SECONDS):
            self.look()

    def look(self) -> int:
        """Takes what has ended since the last look. Returns how many jobs are open still."""
        sent = {one.load.job_id: one for one in self._ledger.open()}
        states = patiently(lambda: self._states(list(sent)))
        ended = [job_id for job_id, state in states.items() if state not in LIVE_JOBS]
        for job_id in ended:
            if (one := self._ledger.take(job_id)) is not None and self._take(one):
                patiently(lambda load=one.load: self._remove(load))  # type: ignore[misc]
        return len(sent) - len(ended)

    def give_up(self) -> None:
        """Counts what never ended."""
        for one in self._ledger.open():
            self._take(one)

    def counters(self, log: Path, late_rows: int) -> Counters:
        """``late_rows``: results of jobs that had been looked at and removed; each came after another one was there."""
        recomputed, unaudited = self._calls.tally(log)
        found = {**self._found, "doubled": self._found["doubled"] + late_rows, "unaudited": self._found["unaudited"] + unaudited}
        return Counters(**found, recomputed=recomputed)

    def _take(self, one: Sent) -> bool:
        """Whether it may go. Where something is wrong it stays, for somebody to look at; and where all is well some do, to be run again."""
        load = one.load
        outcome: Outcome = patiently(lambda: check(self._store, load))
        well = not (outcome.lost or outcome.doubled or outcome.wrong or outcome.miscounted)
        if well and not outcome.answered.all() and self._ledger.set_aside(one):
            return False
        unread = patiently(lambda: self._calls.expect(self._store, load, outcome))
        unfinished = one.retried and outcome.state != JobState.COMPLETED
        found = {
            "lost": len(load.texts) if unfinished else outcome.lost,
            "doubled": outcome.doubled,
            "wrong": outcome.wrong,
            "miscounted": outcome.miscounted,
            "unaudited": unread,
        }
        self._found.update(found)
        self.ended[outcome.state] += 1
        if one.is_real:
            self.real_rows += len(load.texts)
        else:
            self.rows += len(load.texts)
        if any(found.values()):
            named = ", ".join(f"{name} {number}" for name, number in found.items() if number)
            self._say(f"FOUND in job {load.job_id} of {len(load.texts)} rows ({outcome.state}): {named}")
            self.kept.add(load.job_id)
        return load.job_id not in self.kept

    def _remove(self, load: Load) -> None:
        """May be done twice."""
        file_id = jobs.get_job(self._store, load.actor, load.job_id).file_id
        for which in ("output", "errors"):
            with suppress(NotFound):
                jobs.delete_outputs(self._store, load.actor, load.job_id, which)
        with suppress(NotFound):
            files.delete_file(self._store, load.actor, file_id)
