"""A decoder that speaks on all lanes for as long as it is timed: rows that end make room for others, as in a large job."""

import random
import time
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from workers.arrays import Ids
from workers.batches.activity import Activity
from workers.engines.calibration.trials import LEAST_CPU_SHARE, SLICE_SECONDS, Slices, Timing, on_lanes, over, queued
from workers.engines.contract.decoding import DecoderEngine, DecoderRow, Slots

LEAST_TOKENS, MOST_TOKENS, MEAN_TOKENS = 8, 128, 35  # of an answer
FIRST_STEPS: Final = 4  # in which the first prompts are read: nothing is timed


class Speaker:
    """One lane. It counts the tokens of its rows as their mask, which forbids nothing."""

    def __init__(self, slots: Slots, prompts: Sequence[Ids], seed: int, max_tokens: int) -> None:
        self.begin()
        self._rows: set[DecoderRow] = set()
        self._slots = slots
        self._prompts = prompts
        self._max_tokens = max_tokens
        self._chance = random.Random(seed)  # noqa: S311 - the point is that it repeats

    def fill(self, bits: NDArray[np.int32]) -> bool:
        return False

    def take(self, token: int) -> bool:
        self.tokens += 1
        return False

    def begin(self) -> None:
        """What is counted is counted from now on. ``cpu_seconds``: of the lane's own thread."""
        self.steps = self.tokens = 0
        self.seconds = self.cpu_seconds = 0.0

    def speak(self, enough: Callable[["Speaker"], bool]) -> None:
        """One step at least."""
        while True:
            began, cpu = time.perf_counter(), time.thread_time()
            rows = [self._row() for _ in range(self._slots.room().rows)]
            self._slots.add(rows)
            self._rows.update(rows)
            self._rows.difference_update(one.row for one in self._slots.step())
            self.seconds += time.perf_counter() - began
            self.cpu_seconds += time.thread_time() - cpu
            self.steps += 1
            if enough(self):
                return

    def end(self) -> None:
        """Lets go of the keys and values of its rows."""
        for row in self._rows:
            self._slots.cancel(row)

    def _row(self) -> DecoderRow:
        tokens = LEAST_TOKENS + int(self._chance.expovariate(1 / (MEAN_TOKENS - LEAST_TOKENS)))
        prompt = self._chance.choice(self._prompts)
        return DecoderRow(prompt, min(MOST_TOKENS, tokens, self._max_tokens - len(prompt)), mask=self)


def spoken(
    engine: DecoderEngine, prompts: Sequence[Ids], lanes: int, seconds: float, rounds: int, activity: Activity
) -> Slices[list[Timing]]:
    """Tokens said a second in each round, on so many lanes; where others took the cores meanwhile, by the time that the lanes had them."""
    speakers = [Speaker(engine.slots(), prompts, number, engine.max_tokens) for number in range(lanes)]
    try:
        yield from _all(speakers, lambda one: one.steps >= FIRST_STEPS, activity)
        timings = []
        for _ in range(rounds):
            for one in speakers:
                one.begin()
            mark = activity.mark()
            yield from _all(speakers, lambda one: one.seconds >= seconds, activity)
            timings.append(_timing(speakers, is_quiet=activity.quiet_since(mark)))
        return timings
    finally:
        for one in speakers:
            one.end()


def _timing(speakers: Sequence[Speaker], *, is_quiet: bool) -> Timing:
    had, wanted = (sum(seconds) for seconds in zip(*((one.cpu_seconds, one.seconds) for one in speakers), strict=True))
    disturbed = had < LEAST_CPU_SHARE * wanted or not is_quiet
    return Timing(sum(one.tokens / (one.cpu_seconds if disturbed else one.seconds) for one in speakers), disturbed)


def _all(speakers: Sequence[Speaker], done: Callable[[Speaker], bool], activity: Activity) -> Slices[None]:
    """Each on its lane, until it is done. A slice ends early where somebody waits."""
    while left := [one for one in speakers if not done(one)]:
        _slice(left, done, over(SLICE_SECONDS, activity))
        yield


def _slice(speakers: Sequence[Speaker], done: Callable[[Speaker], bool], is_over: Callable[[], bool]) -> None:
    on_lanes(len(speakers), queued(speakers), lambda speaker: speaker.speak(lambda one: done(one) or is_over()), until=lambda: True)
