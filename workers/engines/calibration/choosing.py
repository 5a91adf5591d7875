"""Which way to run an encoder is the best on this machine: each is held against fp32, then timed, and the fastest that agrees wins.

It is found in slices, so that it can be done beside the work: see :mod:`workers.engines.calibration.slices`."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from workers.arrays import Ids
from workers.batches.activity import Activity
from workers.engines.calibration.attempts import Attempts
from workers.engines.calibration.encoder_candidates import EncoderCandidate, EncoderCandidates
from workers.engines.calibration.findings import Finding, Trial
from workers.engines.calibration.held_texts import held_texts
from workers.engines.calibration.trials import Slices, Timing, probabilities, run_all, timed
from workers.engines.calibration.verdicts import ranked, runs, speed, why_untried
from workers.engines.contract.engine import EncoderEngine
from workers.engines.contract.plan import EngineName, NumberFormat

LEAST_AGREEMENT: Final = 0.995  # of the labels
MOST_DIFFERENCE: Final = 0.02  # of any label's probability, over all held texts
HELD_TEXTS: Final = 400
LEAST_TEXTS: Final = 64
REFERENCE_SECONDS: Final = 6.0  # a large model is held to fewer texts, so that the whole stays within a minute
TRIAL_SECONDS: Final = 0.3
ROUNDS: Final = 3  # of trials, all candidates in turns; the best of each counts, because other work on the machine only ever slows one down
BUDGETS: Final = (256, 512, 1024, 2048)
AS_GOOD: Final = 0.98  # of the fastest: what is within the noise of a quiet machine
WORTH_A_SWEEP: Final = 0.85  # of the fastest at first sight: lanes and budgets of a slower one are not tried


def calibration(
    candidates: EncoderCandidates,
    activity: Activity,
    *,
    model: str,
    weights: str,
    cores: int,
    engine: EngineName | None = None,
    number_format: NumberFormat | None = None,
    trial_seconds: float = TRIAL_SECONDS,
    texts: int = HELD_TEXTS,
    attempts: Attempts | None = None,
) -> Slices[Finding]:
    """`engine` and `number_format` narrow the choice; then the fastest is taken even where none agrees: somebody asked for it.

    It is to be gone on with when nobody waits. A slice takes half a second or so; longer only where a library makes its
    graph. All of them: some 30 s for MiniLM on two quiet cores, 50 s on busy ones."""
    began = time.perf_counter()
    bench = yield from _Bench.prepare(candidates, activity, attempts or Attempts(), cores, trial_seconds, texts)
    asked = [one for one in candidates if engine in {None, one.engine} and number_format in {None, one.format}]
    held = []
    for candidate in asked:
        held.append((candidate, (yield from bench.hold(candidate))))
    tried = yield from bench.timed(held)
    fit = [(candidate, trial) for candidate, trial in tried if trial.verdict == "slower"]
    unfit = [trial for _, trial in tried if trial.verdict != "slower"]
    if not fit:
        fit = [(candidate, trial) for candidate, trial in tried if trial.verdict == "disagrees"]
        unfit = [trial for trial in unfit if trial.verdict != "disagrees"]
    if not fit:  # nothing of what was asked for runs here
        reference = candidates.reference
        fit = yield from bench.timed([(reference, (yield from bench.hold(reference)))])
    fastest = max(speed(trial) for _, trial in fit)
    slow = [trial for _, trial in fit if speed(trial) < WORTH_A_SWEEP * fastest]
    fast = [(candidate, trial) for candidate, trial in fit if speed(trial) >= WORTH_A_SWEEP * fastest]
    bench.keep_only(candidate for candidate, _ in fast)
    swept = slow + (yield from bench.sweep(fast))
    seconds = time.perf_counter() - began
    return Finding(
        model, weights, candidates.packed, len(bench.held), seconds, ranked(swept, unfit, max(swept, key=speed)), disturbed=bench.disturbed
    )


@dataclass(slots=True)
class _Bench:
    """What all candidates of a calibration are held against, and with."""

    reference: EncoderCandidate
    activity: Activity
    attempts: Attempts
    held: list[str]
    work: Sequence[Ids]
    truth: NDArray[np.float32]
    cores: int
    seconds: float
    engines: dict[str, EncoderEngine]  # by the candidate's name
    disturbed: bool = False  # of some way, every timing was

    @classmethod
    def prepare(
        cls, candidates: EncoderCandidates, activity: Activity, attempts: Attempts, cores: int, seconds: float, texts: int
    ) -> "Slices[_Bench]":
        reference = candidates.reference
        loaded = reference.load(cores, 1)
        yield
        held = yield from _affordable(loaded, held_texts(texts), cores, activity)
        work = loaded.tokenize(held)[0]
        truth = yield from probabilities(loaded, held, cores, activity)
        return cls(reference, activity, attempts, held, work, truth, cores, seconds, {reference.name: loaded})

    def hold(self, candidate: EncoderCandidate) -> Slices[Trial]:
        """Its agreement with the reference. The verdict is "slower" for all that may still be chosen."""
        if (why := why_untried(candidate, self.attempts)) is not None:
            return Trial(candidate.engine, candidate.format, "not here", why)
        budget = candidate.policy.budget_tokens
        same = (candidate.engine, candidate.format) == (self.reference.engine, self.reference.format)
        try:
            # Another library's fp32 differs by the order of its sums or is wrong: a few texts of all lengths tell, and it is slow.
            held = self.held[:LEAST_TEXTS] if candidate.format == "float32" else self.held
            found = truth = self.truth[: len(held)]
            if not same:
                with self.attempts.trying(candidate.name):
                    engine = yield from self.engine_of(candidate)
                    found = yield from probabilities(engine, held, self.cores, self.activity)
        except Exception as error:  # a library that fails on this machine is one way fewer
            return Trial(candidate.engine, candidate.format, "not here", f"it fails on this machine ({type(error).__name__})")
        agreement = float((found.argmax(axis=1) == truth.argmax(axis=1)).mean())
        difference = float(np.abs(found - truth).max()) if np.isfinite(found).all() else float("inf")
        trial = Trial(candidate.engine, candidate.format, "slower", "", agreement, difference, None, self.cores, 1, budget)
        if agreement < LEAST_AGREEMENT:
            return replace(trial, verdict="disagrees", reason=f"{agreement:.2%} of the labels as in fp32; {LEAST_AGREEMENT:.1%} must be")
        if not difference < MOST_DIFFERENCE:
            return replace(trial, verdict="disagrees", reason=f"a probability {difference:.3f} off fp32's; under {MOST_DIFFERENCE} must be")
        return trial

    def timed(self, tried: list[tuple[EncoderCandidate, Trial]]) -> Slices[list[tuple[EncoderCandidate, Trial]]]:
        """The same with each one's first speed, where it runs at all."""
        ways = []
        for candidate, trial in tried:
            if runs(trial):
                engine = yield from self.engine_of(candidate)
                ways.append(_Way(engine, self.cores, 1, candidate.policy.budget_tokens))
        speeds = iter((yield from self.speeds(ways)))
        return [(candidate, replace(trial, tokens_per_second=next(speeds)) if runs(trial) else trial) for candidate, trial in tried]

    def sweep(self, fit: list[tuple[EncoderCandidate, Trial]]) -> Slices[list[Trial]]:
        """Each with its best token budget, and with one lane of all cores where that beats a lane a core."""
        ways: list[tuple[int, _Way]] = []
        for place, (candidate, _) in enumerate(fit):
            engine = yield from self.engine_of(candidate)
            ways += [(place, _Way(engine, self.cores, 1, budget)) for budget in BUDGETS]
            if self.cores > 1 and candidate.engine in {"openvino", "onnx"}:  # torch has one pool of threads a process, whatever the lanes
                whole = candidate.load(1, self.cores)
                yield
                ways += [(place, _Way(whole, 1, self.cores, budget)) for budget in BUDGETS[1:3]]
        speeds = yield from self.speeds([way for _, way in ways])
        swept = []
        for place, (_, trial) in enumerate(fit):
            own = [(way, rate) for (whose, way), rate in zip(ways, speeds, strict=True) if whose == place]
            way, rate = _smallest_of_the_fastest(own)
            swept.append(replace(trial, tokens_per_second=rate, lanes=way.lanes, threads=way.threads, budget_tokens=way.budget_tokens))
        return swept

    def speeds(self, ways: Sequence["_Way"]) -> Slices[list[float]]:
        """Tokens a second of each, the best of some rounds in turns; of those that nothing disturbed, where there are any."""
        found: list[list[Timing]] = [[] for _ in ways]
        for _ in range(ROUNDS):
            for way, timings in zip(ways, found, strict=True):
                timings.append(timed(way.engine, self.work, way.lanes, way.budget_tokens, self.seconds, self.activity, threads=way.threads))
                yield
        self.disturbed |= any(all(timing.disturbed for timing in timings) for timings in found)
        return [max((not one.disturbed, one.tokens_per_second) for one in timings)[1] for timings in found]

    def keep_only(self, candidates: Iterable[EncoderCandidate]) -> None:
        """Lets go of the engines of all others."""
        names = {candidate.name for candidate in candidates}
        self.engines = {name: engine for name, engine in self.engines.items() if name in names}

    def engine_of(self, candidate: EncoderCandidate) -> Slices[EncoderEngine]:
        """Loaded once, for a lane a core."""
        if candidate.name not in self.engines:
            self.engines[candidate.name] = candidate.load(self.cores, 1)
            yield
        return self.engines[candidate.name]


@dataclass(frozen=True, slots=True)
class _Way:
    engine: EncoderEngine
    lanes: int
    threads: int
    budget_tokens: int


def _smallest_of_the_fastest(tried: Sequence[tuple[_Way, float]]) -> tuple[_Way, float]:
    """The way with the smallest budget of those that are as good as the fastest: with half the tokens a batch, an interactive row waits
    half as long, and so do the other lanes for the last batch of a job."""
    fastest = max(speed for _, speed in tried)
    return min((one for one in tried if one[1] >= AS_GOOD * fastest), key=lambda one: (one[0].budget_tokens, -one[1]))


def _affordable(engine: EncoderEngine, texts: list[str], lanes: int, activity: Activity) -> Slices[list[str]]:
    """As many of the texts as the reference gets through in its time, a good many at least."""
    sample = engine.tokenize(texts[:LEAST_TEXTS])[0]
    _, seconds = yield from run_all(engine, sample, lanes, activity)
    each = seconds / len(sample)
    return texts[: max(LEAST_TEXTS, int(REFERENCE_SECONDS / max(each, 1e-9)))]
