"""The calibrator goes from slice to slice, lets the work go first, and puts the better way in. Here on one thread, by a clock that only
its own pauses move."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from workers.batches.activity import Activity
from workers.batches.policy import Policy, Work
from workers.engines.calibration import findings
from workers.engines.calibration.findings import Finding, Trial
from workers.engines.calibration.slices import AGAIN_AFTER_SECONDS, MOST_TRIES, REST
from workers.engines.contract.plan import Plan
from workers.inference.calibrator import Calibrator

SAFE = Plan("cpu", "float32", 2, Policy(1024, padded=False))
BETTER = replace(SAFE, engine="openvino")
SLICES = 4
FOUND = Finding("small", "w", True, 64, 1.0, (Trial("openvino", "float32", "chosen", "fast"),))


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Scripted(Activity):
    """Every pause passes at once, and runs the next step of the script; after its end the calibrator is closed."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.passing = clock
        self.pauses: list[float] = []
        self.script: list[Callable[[], object]] = []
        self.at_end: Callable[[], object] = lambda: None

    def wait(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.passing.now += seconds
        if self.script:
            self.script.pop(0)()
        elif len(self.pauses) > 100:
            self.at_end()


@dataclass
class FakeChoice:
    """Finds ``finding`` after some slices of half a second each. ``during`` runs in each slice."""

    folder: Path
    clock: Clock
    finding: Finding = FOUND
    during: Callable[[int], object] = lambda _number: None
    stored: Finding | None = None
    began: list[float] = field(default_factory=list)

    def kept(self) -> Finding | None:
        return self.stored

    def is_open(self, finding: Finding) -> bool:
        return finding.disturbed and finding.tries < MOST_TRIES

    def way(self, finding: Finding) -> tuple[Plan, None]:
        return (BETTER if finding.chosen.engine == "openvino" else SAFE), None

    def load(self, finding: Finding) -> tuple[str, Plan]:
        return "an engine", self.way(finding)[0]

    def slices(self, _activity: Activity) -> Any:
        for number in range(SLICES):
            self.began.append(self.clock.now)
            self.during(number)
            self.clock.now += 0.5
            yield
        return self.finding

    def keep(self, found: Finding, before: Finding | None) -> Finding:
        self.stored = replace(found, tries=1 if before is None else before.tries + 1)
        return self.stored


class House:
    def __init__(self, home: Path) -> None:
        self.clock = Clock()
        self.activity = Scripted(self.clock)
        self.choice = FakeChoice(home, self.clock)
        self.swapped: list[tuple[str, object, Plan]] = []
        self.told: list[str | None] = []
        self.calibrator = Calibrator(
            self.activity,
            lambda _model_id: self.choice,  # type: ignore[arg-type,return-value]
            lambda *way: self.swapped.append(way),
            changed=lambda: self.told.append(self.calibrator.model),
            clock=self.clock,
        )
        self.activity.at_end = self.calibrator.close

    def run(self, *script: Callable[[], object]) -> None:
        """All that the calibrator does of itself, on this thread."""
        self.activity.script = list(script)
        self.calibrator._thread = _NoThread()  # type: ignore[assignment]
        self.calibrator.add("small", SAFE)
        self.calibrator._run()


class _NoThread:
    ident = 1

    def is_alive(self) -> bool:
        return False


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_the_better_way_is_put_in_and_it_is_told_meanwhile_which_model_is_calibrated(house: House) -> None:
    house.run()
    assert house.swapped == [("small", "an engine", BETTER)]
    assert house.told == ["small", None]
    assert len(house.choice.began) == SLICES


def test_a_model_that_runs_in_the_best_way_already_stays_as_it_is(house: House) -> None:
    house.choice.finding = replace(FOUND, trials=(Trial("torch", "float32", "chosen", "fast"),))
    house.run()
    assert house.choice.stored is not None
    assert house.swapped == []


def test_beside_bulk_it_pauses_after_each_slice_for_four_times_as_long(house: House) -> None:
    house.activity.enter(Work.BULK)
    house.run()
    gaps = [after - before for before, after in zip(house.choice.began, house.choice.began[1:], strict=False)]
    assert gaps == [0.5 + 0.5 * REST] * (SLICES - 1)
    assert house.swapped


def test_no_slice_begins_while_somebody_waits(house: House) -> None:
    def come(number: int) -> None:
        if number == 1:
            house.activity.enter(Work.INTERACTIVE)

    house.choice.during = come
    began_while_waiting: list[int] = []

    def look() -> None:
        began_while_waiting.append(len(house.choice.began))

    house.run(lambda: None, look, look, look, lambda: house.activity.leave(Work.INTERACTIVE))
    assert began_while_waiting == [2, 2, 2]
    assert len(house.choice.began) == SLICES
    assert house.swapped


def test_no_slice_begins_while_it_is_on_hold(house: House) -> None:
    def hold(number: int) -> None:
        house.calibrator.on_hold = number == 1

    house.choice.during = hold
    began_on_hold: list[int] = []

    def look() -> None:
        began_on_hold.append(len(house.choice.began))

    def go_on() -> None:
        house.calibrator.on_hold = False

    house.run(lambda: None, look, look, go_on)
    assert began_on_hold == [2, 2]
    assert len(house.choice.began) == SLICES


def test_what_another_process_finds_is_taken_over(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []

    def look(_seconds: float) -> bool:
        looks.append(len(house.choice.began))
        house.choice.stored = FOUND
        return False

    monkeypatch.setattr(house.calibrator._closing, "wait", look)
    with findings.alone(house.choice.folder):
        house.run()
    assert looks == [0]
    assert house.choice.began == []
    assert house.told == [], "the other one calibrates, and this one says nothing else"
    assert house.swapped == [("small", "an engine", BETTER)]


def test_a_disturbed_finding_is_used_and_made_again_when_the_machine_is_quiet(house: House) -> None:
    house.choice.finding = replace(FOUND, disturbed=True)
    swapped_before: list[int] = []

    def now_quiet(number: int) -> None:
        if len(house.choice.began) > SLICES:
            swapped_before.append(len(house.swapped))
            house.choice.finding = FOUND

    house.choice.during = now_quiet
    house.run()
    assert swapped_before[0] == 1, "it was used"
    assert house.choice.began[SLICES] - house.choice.began[SLICES - 1] >= AGAIN_AFTER_SECONDS - 2
    assert house.choice.stored == replace(FOUND, tries=2)
    assert len(house.choice.began) == 2 * SLICES


def test_on_a_machine_that_is_never_quiet_it_is_not_made_again_for_ever(house: House) -> None:
    house.choice.finding = replace(FOUND, disturbed=True)
    house.run()
    assert house.choice.stored == replace(FOUND, disturbed=True, tries=MOST_TRIES)
    assert len(house.choice.began) == MOST_TRIES * SLICES


def test_work_that_comes_cuts_a_second_look_short_and_gives_the_lock_away(house: House) -> None:
    house.choice.finding = replace(FOUND, disturbed=True)
    free: list[bool] = []

    def come(_number: int) -> None:
        if len(house.choice.began) == SLICES + 1:
            house.activity.enter(Work.BULK)
            house.activity.script = [look]

    def look() -> None:
        with findings.alone(house.choice.folder, wait=False) as mine:
            free.append(mine)

    house.choice.during = come
    house.run()
    assert free == [True]
    assert len(house.choice.began) == SLICES + 1
    assert house.choice.stored is not None
    assert house.choice.stored.tries == 1


def test_a_calibration_that_fails_leaves_the_model_as_it_runs_and_says_no_content(house: House, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_number: int) -> None:
        raise RuntimeError("with a detail that is not shown")

    house.choice.during = fail
    house.run()
    assert house.swapped == []
    assert "small: could not be calibrated: RuntimeError" in caplog.text
    assert "detail" not in caplog.text


def test_a_calibration_that_is_given_up_ends_after_its_slice_and_is_not_begun_again(house: House) -> None:
    def give_up(number: int) -> None:
        if number == 1:
            house.calibrator.give_up()

    house.choice.during = give_up
    house.run(lambda: None, lambda: house.calibrator.add("another", SAFE))
    assert len(house.choice.began) == 2
    assert (house.swapped, house.choice.stored) == ([], None)
    assert house.told == ["small", None]
    assert house.calibrator._tasks == []
