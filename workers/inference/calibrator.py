"""Finds out how models run best on this machine, beside their work, and puts the better way in.

One thread a process. It goes from slice to slice when :mod:`workers.engines.calibration.slices` says that it may. Of several processes on
one folder of findings one calibrates, and the others take over what it found.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from workers.batches.activity import Activity
from workers.engines.calibration import findings
from workers.engines.calibration.slices import FIRST_REST_SECONDS, REST, wait_seconds
from workers.engines.contract.plan import Plan
from workers.inference.memory import give_memory_back
from workers.logs import place_of

if TYPE_CHECKING:
    from workers.engines.calibration.choice import Choice
    from workers.engines.calibration.findings import Finding

LOOK_SECONDS: Final = 2.0  # between two looks whether another process is through
NOBODY_CALLS_SECONDS: Final = 5.0  # at the latest it looks again whether it may go on

log = logging.getLogger("textmill.engines")


@dataclass(frozen=True, slots=True)
class _Task:
    """A model and how it runs now. ``finding``: what is to be made again when nothing else is to be done."""

    model_id: str
    plan: Plan
    finding: "Finding | None" = None

    @property
    def only_idle(self) -> bool:
        return self.finding is not None


class Calibrator:
    """Parameters: ``choice_for`` a model, by its id; ``swap(model_id, engine, plan)`` puts a way in the place of the one before;
    ``changed`` is called when `model` is another. ``clock`` is monotonic, in seconds."""

    def __init__(
        self,
        activity: Activity,
        choice_for: "Callable[[str], Choice[Any]]",
        swap: Callable[[str, Any, Plan], object],
        *,
        changed: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.model: str | None = None  # that is being calibrated
        self.on_hold = False  # begins no slice
        self._activity = activity
        self._choice_for = choice_for
        self._swap = swap
        self._changed = changed
        self._clock = clock
        self._lock = threading.Lock()
        self._tasks: list[_Task] = []
        self._ended_at = clock()  # of the slice before
        self._took_seconds = 0.0
        self._closing = threading.Event()
        self._given_up = False
        self._thread = threading.Thread(target=self._run, name="calibrator", daemon=True)

    def add(self, model_id: str, plan: Plan) -> None:
        """A model that was loaded, and runs so until more is known. Begins the thread where this is the first."""
        with self._lock:
            if self._closing.is_set() or self._given_up:
                return
            self._tasks = [task for task in self._tasks if task.model_id != model_id]
            self._tasks.append(_Task(model_id, plan))
            self._rested(FIRST_REST_SECONDS / REST)
            if self._thread.ident is None:
                self._thread.start()
        self._activity.wake()

    def forget(self, model_id: str) -> None:
        """A model that is loaded no more: what was still to be found out is, when it is loaded again."""
        with self._lock:
            self._tasks = [task for task in self._tasks if task.model_id != model_id]

    def give_up(self) -> None:
        """Lets go of all that a calibration holds, and begins none in this process: there is no memory for it. Models go on as they run."""
        with self._lock:
            self._given_up = True
            self._tasks.clear()
        self._activity.wake()

    def close(self) -> None:
        """Begins no slice more, and waits for the one that runs."""
        with self._lock:
            self._closing.set()
        self._activity.wake()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while (task := self._next()) is not None:
            try:
                self._settle(task)
            except Exception as error:  # the model goes on as it runs
                log.error("%s: could not be calibrated: %s at %s", task.model_id, type(error).__name__, place_of(error))
            give_memory_back()
            if self.model is not None:
                self._now(None)

    def _next(self) -> _Task | None:
        """The next task, once it may begin; None at the end. What is to be made again comes after everything else, in a quiet hour."""
        while not self._closing.is_set():
            with self._lock:
                task = next(iter(sorted(self._tasks, key=lambda one: one.only_idle)), None)
            if task is None:
                self._activity.wait(NOBODY_CALLS_SECONDS)
                continue
            seconds = self._left_seconds(only_idle=task.only_idle)
            if seconds == 0:
                with self._lock:
                    self._tasks.remove(task)
                return task
            self._wait(seconds)
        return None

    def _settle(self, task: _Task) -> None:
        choice = self._choice_for(task.model_id)
        found = self._found(choice, task)
        if found is None:
            return
        plan, _ = choice.way(found)
        if plan != task.plan and self._turn():
            engine, plan = choice.load(found)
            log.info("%s: now %s", task.model_id, plan.describe())
            self._swap(task.model_id, engine, plan)
        if choice.is_open(found):
            self._again(replace(task, plan=plan, finding=found))

    def _found(self, choice: "Choice[Any]", task: _Task) -> "Finding | None":
        """What this process or another one found. None where the process ends, or a task for a quiet hour was cut short."""
        while not self._closing.is_set():
            with findings.alone(choice.folder, wait=False) as mine:
                known = choice.kept()
                if known is not None and (task.finding is None or known.tries > task.finding.tries or not known.disturbed):
                    return known
                if mine:
                    return self._calibrate(choice, task)
            self._closing.wait(LOOK_SECONDS)
        return None

    def _calibrate(self, choice: "Choice[Any]", task: _Task) -> "Finding | None":
        log.info("%s: calibrating beside the work", task.model_id)
        self._now(task.model_id)
        slices = choice.slices(self._activity)
        try:
            while not self._given_up and (self._quiet() if task.only_idle else self._turn()):
                began = self._clock()
                try:
                    next(slices)
                except StopIteration as done:
                    found = choice.keep(done.value, task.finding)
                    told = "; made again when this machine is quiet" if choice.is_open(found) else ""
                    log.info("%s: calibrated%s", task.model_id, told)
                    return found
                self._rested(self._clock() - began)
        finally:
            slices.close()
        if task.only_idle:  # its time will come again; meanwhile nobody else is kept from calibrating
            self._again(task)
        return None

    def _again(self, task: _Task) -> None:
        with self._lock:
            if not self._given_up:
                self._tasks.append(task)

    def _turn(self) -> bool:
        """Waits until a slice may begin. False where the process ends."""
        while (seconds := self._left_seconds(only_idle=False)) != 0 and not self._closing.is_set():
            self._wait(seconds)
        return not self._closing.is_set()

    def _quiet(self) -> bool:
        return self._left_seconds(only_idle=True) == 0 and not self._closing.is_set()

    def _left_seconds(self, *, only_idle: bool) -> float | None:
        if self.on_hold:
            return None
        since_seconds = self._clock() - self._ended_at
        return wait_seconds(self._activity.now, took_seconds=self._took_seconds, since_seconds=since_seconds, only_idle=only_idle)

    def _wait(self, seconds: float | None) -> None:
        self._activity.wait(NOBODY_CALLS_SECONDS if seconds is None else min(seconds, NOBODY_CALLS_SECONDS))

    def _rested(self, took_seconds: float) -> None:
        self._ended_at, self._took_seconds = self._clock(), took_seconds

    def _now(self, model_id: str | None) -> None:
        self.model = model_id
        self._changed()
