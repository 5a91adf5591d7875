"""Restarts and the supervisor's order of things: with a clock in hand and no process."""

import signal
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.local.home.instance import ProcessName
from api.local.home.refusals import StackError
from api.local.processes.children import Child
from api.local.processes.restarts import FIRST_DELAY_SECONDS, HEALTHY_SECONDS, MAX_DELAY_SECONDS, Restarts
from api.local.processes.supervisor import START_ATTEMPTS, STOPPED_CHECK_SECONDS, STOPPED_SECONDS, State, Supervisor, ended_how
from workers.host.memory import EX_CEILING, EX_PLANNED


class Process:
    """Stands for a child: lives until it is told not to."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.code: int | None = None
        self.stopped = False

    def is_stopped(self) -> bool:
        return self.stopped

    def signal(self, number: int) -> None:
        self.code = -number

    def exit_code(self) -> int | None:
        return self.code


class Puppet:
    """A part whose life the test plays."""

    grace_seconds = 0.0

    def __init__(self, name: str, *, ready: bool = True, obeys: bool = True) -> None:
        self.name = name
        self.ready = ready
        self.obeys = obeys
        self.starts = 0
        self.refuses = False
        self.signals: list[str] = []
        self.process: Process | None = None

    @property
    def child(self) -> Child | None:
        return cast("Child | None", self.process)

    @child.setter
    def child(self, value: Child | None) -> None: ...

    def start(self) -> None:
        if self.refuses:
            raise StackError("the port is taken")
        self.starts += 1
        self.process = Process(1000 + self.starts)

    def is_ready(self) -> bool:
        return self.ready

    def signal_end(self, *, hurry: bool) -> None:
        self.signals.append("hurry" if hurry else "end")
        if self.obeys and self.process is not None:
            self.process.code = 0

    def stop(self, *, hurry: bool) -> None:
        self.signals.append("killed" if hurry else "waited")
        if self.process is not None:
            self.process.code = -9

    def last_words(self) -> str:
        return "its last words"

    def die(self, code: int = 1) -> None:
        assert self.process is not None
        self.process.code = code


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_part_runs_once_it_answers(clock: Clock) -> None:
    supervisor, part = Supervisor(lambda line: None, clock=clock), Puppet("worker", ready=False)
    supervisor.start(part)
    supervisor.tick()
    assert supervisor.watched[0].state is State.STARTING
    part.ready = True
    supervisor.tick()
    assert supervisor.all_running


def test_a_crash_is_told_with_its_reason_and_mended_after_a_pause(clock: Clock) -> None:
    told: list[str] = []
    supervisor, part = Supervisor(told.append, clock=clock), Puppet("worker")
    supervisor.start(part)
    supervisor.tick()
    part.die(70)
    supervisor.tick()
    assert told[-1] == "worker died: it ended with exit code 70 (its last words) · starting it again in 0.5 s"
    supervisor.tick()
    assert part.starts == 1
    clock.now += FIRST_DELAY_SECONDS
    supervisor.tick()
    supervisor.tick()
    assert (part.starts, supervisor.watched[0].state, supervisor.watched[0].restarts.total) == (2, State.RUNNING, 1)


def test_a_part_that_was_stopped_is_killed_and_started_again_and_one_that_goes_on_in_time_is_not(clock: Clock) -> None:
    told: list[str] = []
    supervisor, part = Supervisor(told.append, clock=clock), Puppet("dispatcher")
    supervisor.start(part)
    supervisor.tick()
    assert part.process is not None
    for stopped, seconds in (
        (True, STOPPED_SECONDS - STOPPED_CHECK_SECONDS),
        (False, STOPPED_CHECK_SECONDS),
        (True, STOPPED_CHECK_SECONDS),
    ):
        part.process.stopped = stopped
        clock.now += seconds
        supervisor.tick()
        assert part.process.code is None
    clock.now += STOPPED_SECONDS - STOPPED_CHECK_SECONDS
    supervisor.tick()
    assert part.process.code == -signal.SIGKILL
    assert told[-1] == "dispatcher has been stopped for 60 s (SIGSTOP): it is killed, and started again"
    supervisor.tick()
    clock.now += FIRST_DELAY_SECONDS
    supervisor.tick()
    supervisor.tick()
    assert (part.starts, supervisor.watched[0].state) == (2, State.RUNNING)


def test_a_part_that_cannot_be_started_again_is_tried_again_later(clock: Clock) -> None:
    supervisor, part = Supervisor(lambda line: None, clock=clock), Puppet("valkey")
    supervisor.start(part)
    part.die()
    part.refuses = True
    for _ in range(START_ATTEMPTS + 1):
        supervisor.tick()
        clock.now += MAX_DELAY_SECONDS
    assert supervisor.watched[0].note == "the port is taken"
    assert supervisor.hopeless() is supervisor.watched[0]
    part.refuses = False
    supervisor.tick()
    supervisor.tick()
    assert supervisor.all_running


def test_a_planned_restart_is_no_crash_and_waits_for_nothing(clock: Clock) -> None:
    told: list[str] = []
    supervisor, part = Supervisor(told.append, clock=clock), Puppet("worker")
    supervisor.start(part)
    supervisor.tick()
    clock.now += HEALTHY_SECONDS
    part.die(EX_PLANNED)
    supervisor.tick()
    assert told[-2] == "worker restarts as planned (its last words)"
    supervisor.tick()
    watched = supervisor.watched[0]
    assert (part.starts, watched.state, watched.restarts) == (2, State.RUNNING, Restarts(total=0, in_a_row=0, planned=1))


def test_planned_restarts_in_quick_succession_wait_longer_and_longer_and_are_no_crashes(clock: Clock) -> None:
    told: list[str] = []
    supervisor, part = Supervisor(told.append, clock=clock), Puppet("worker")
    supervisor.start(part)
    waits = []
    for _ in range(12):
        supervisor.tick()
        clock.now += HEALTHY_SECONDS / 2
        part.die(EX_PLANNED)
        supervisor.tick()
        began, starts = clock.now, part.starts
        while part.starts < starts + (supervisor.watched[0].state is State.WAITING):
            clock.now += FIRST_DELAY_SECONDS
            supervisor.tick()
        waits.append(clock.now - began)
    assert waits[:4] == [0, FIRST_DELAY_SECONDS, 2 * FIRST_DELAY_SECONDS, 4 * FIRST_DELAY_SECONDS]
    assert waits[-1] == MAX_DELAY_SECONDS
    assert "worker restarts as planned (its last words) · starting it again in 30 s" in told
    assert not any("died" in line for line in told)
    assert supervisor.watched[0].restarts.total == 0
    assert supervisor.hopeless() is None
    supervisor.tick()
    clock.now += HEALTHY_SECONDS
    part.die(EX_PLANNED)
    supervisor.tick()
    assert supervisor.watched[0].state is not State.WAITING


def test_a_ceiling_below_what_the_model_needs_is_a_crash_with_what_to_do_and_backed_off_however_long_the_load(clock: Clock) -> None:
    told: list[str] = []
    supervisor, part = Supervisor(told.append, clock=clock), Puppet("worker")
    supervisor.start(part)
    for _ in range(START_ATTEMPTS):
        supervisor.tick()
        clock.now += 10 * HEALTHY_SECONDS
        part.die(EX_CEILING)
        supervisor.tick()
        assert "raise TEXTMILL_MAX_MEMORY_MB" in told[-1]
        assert supervisor.watched[0].state is State.WAITING
        clock.now += supervisor.watched[0].restarts.delay_seconds
        supervisor.tick()
    assert supervisor.watched[0].restarts.delay_seconds == FIRST_DELAY_SECONDS * 2 ** (START_ATTEMPTS - 1)
    assert supervisor.hopeless() is supervisor.watched[0]


def test_each_death_is_handed_on_once_with_the_process_that_died(clock: Clock) -> None:
    ended: list[tuple[str, int]] = []
    supervisor = Supervisor(lambda line: None, ended=lambda part, pid: ended.append((part.name, pid)), clock=clock)
    part, stubborn = Puppet("worker"), Puppet("other", obeys=False)
    supervisor.start(part)
    supervisor.start(stubborn)
    part.die(-9)
    for _ in range(3):
        supervisor.tick()
        clock.now += MAX_DELAY_SECONDS
    assert ended == [("worker", 1001)]
    supervisor.stop([["worker", "other"]], lambda: False)
    assert ended[1:] == [("other", 1001)], "who ends in time has let go of everything itself"


def test_stages_end_one_after_the_other_and_who_overstays_is_killed(clock: Clock) -> None:
    supervisor = Supervisor(lambda line: None, clock=clock)
    good, stubborn, last = Puppet("api"), Puppet("worker", obeys=False), Puppet("postgres")
    for part in (good, stubborn, last):
        supervisor.start(part)
    supervisor.stop([["api", "worker"], ["postgres"]], lambda: False)
    assert (good.signals, stubborn.signals, last.signals) == (["end", "waited"], ["end", "killed"], ["end", "waited"])
    assert {each.state for each in supervisor.watched} == {State.STOPPED}
    assert supervisor.watched[1].note == "did not end in time, killed"


def test_a_second_wish_to_stop_hurries_every_part(clock: Clock) -> None:
    supervisor, part = Supervisor(lambda line: None, clock=clock), Puppet("worker", obeys=False)
    supervisor.start(part)
    supervisor.stop([["worker"]], lambda: True)
    assert part.signals == ["hurry", "killed"]


@given(st.lists(st.floats(0, 2 * HEALTHY_SECONDS), max_size=40))
def test_the_pause_grows_with_crashes_in_a_row_and_never_beyond_its_limit(lives: list[float]) -> None:
    restarts = Restarts()
    for ran_seconds in lives:
        before, restarts = restarts, restarts.after_crash(ran_seconds)
        assert FIRST_DELAY_SECONDS <= restarts.delay_seconds <= MAX_DELAY_SECONDS
        if ran_seconds >= HEALTHY_SECONDS:
            assert restarts.delay_seconds == FIRST_DELAY_SECONDS
        else:
            assert restarts.delay_seconds >= before.delay_seconds
    assert restarts.total == len(lives)


def test_how_a_process_ended_is_said_in_words() -> None:
    assert ended_how(-signal.SIGSEGV, "") == "killed by SIGSEGV"
    assert ended_how(-signal.SIGKILL, "") == "killed by SIGKILL, perhaps for want of memory"
    assert ended_how(2, "no such database") == "it ended with exit code 2 (no such database)"


def test_a_process_is_known_by_more_than_its_number() -> None:
    us = ProcessName.of(1)
    assert us is not None
    assert ProcessName.parse(str(us)) == us
    assert us.lives
    assert not ProcessName(us.pid, us.start_ticks + 1, us.boot).lives
    assert not ProcessName(us.pid, us.start_ticks, "another boot").lives
    for wrong in ("", "12", "x 1 y", "1 2"):
        assert ProcessName.parse(wrong) is None
