"""How many requests a server is given at once: found by what it answers, since no constant fits both a laptop and eight GPUs. Pure.

Up, as BBR's start does (Cardwell et al., 2016): the window doubles with every round in which the server answered a quarter faster than in
the best one before, and stands where three rounds brought nothing. From then on it is tried now and then, in turns, whether a quarter more
makes it faster and whether a quarter less is as good: some servers do more when they are asked for less. Down, as TCP does (Chiu and Jain,
1989): a server that says it has too much is given seven tenths, once a round, for what was under way when it said so had been sent before.

A **round** is as many answers as the window is wide, of a window that was full; with less to ask for nothing is learnt.
"""

from typing import Final

FIRST: Final = 4
MOST: Final = 4_096  # far more than any server runs at once: what a queue of its own holds in memory is bounded
FASTER: Final = 1.25  # of a doubled window
PATIENCE_ROUNDS: Final = 3
FEWER: Final = 0.7
TRIAL_ROUNDS: Final = 4  # between two trials of a wider window
WORTH: Final = 1.05  # of a quarter more
AS_GOOD: Final = 0.98  # of a quarter less
LEAST_ANSWERS: Final = 8  # of a round: fewer tell of chance only


class Window:
    """Times in seconds of a monotonic clock. ``size`` of an answer: tokens, or whatever the server's work grows with."""

    def __init__(self) -> None:
        self.width = FIRST
        self._starting = True
        self._best = 0.0  # size a second
        self._best_width = FIRST
        self._idle_rounds = 0  # of the start, that brought nothing; later, since the last trial
        self._tried_from: int | None = None  # the width before the trial that runs
        self._tries_less = False
        self._began_at = 0.0
        self._answers = 0
        self._size = 0.0
        self._full = True
        self._round = 0
        self._refused_in = -1  # the round of the last refusal

    def begin(self, now: float) -> None:
        """Something is under way again, after nothing was."""
        self._began_at, self._answers, self._size, self._full = now, 0, 0.0, True

    def answered(self, now: float, size: float, *, full: bool) -> None:
        """``full``: as much was under way as may be."""
        self._answers += 1
        self._size += size
        self._full = self._full and full
        if self._answers >= max(self.width, LEAST_ANSWERS):
            self._end_round(now)

    def refused(self, now: float) -> None:
        """The server has too much."""
        self._starting = False
        if self._refused_in == self._round:
            return
        self._refused_in = self._round
        self.width = max(1, int(self.width * FEWER))
        self._best, self._best_width = 0.0, self.width
        self._tried_from, self._idle_rounds = None, 0
        self.begin(now)

    def _end_round(self, now: float) -> None:
        speed, full = self._size / max(now - self._began_at, 1e-6), self._full
        self._round += 1
        self.begin(now)
        if not full:
            return
        if self._starting:
            self._go_up(speed)
        elif self._tried_from is not None:
            self._judge(speed)
        else:
            self._best, self._best_width = speed, self.width
            self._idle_rounds += 1
            if self._idle_rounds >= TRIAL_ROUNDS:
                self._idle_rounds = 0
                self._tried_from = self.width
                step = max(1, self.width // 4)
                self.width = max(1, self.width - step) if self._tries_less else min(MOST, self.width + step)

    def _go_up(self, speed: float) -> None:
        if speed >= FASTER * self._best:
            self._best, self._best_width, self._idle_rounds = speed, self.width, 0
            self.width = min(MOST, 2 * self.width)
        else:
            self._idle_rounds += 1
            if self._idle_rounds >= PATIENCE_ROUNDS:
                self._starting, self._idle_rounds = False, 0
                self.width = self._best_width

    def _judge(self, speed: float) -> None:
        if self._tried_from is not None and speed < (AS_GOOD if self._tries_less else WORTH) * self._best:
            self.width = self._tried_from
        else:
            self._best, self._best_width = speed, self.width
        self._tried_from, self._tries_less = None, not self._tries_less
