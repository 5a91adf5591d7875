"""Which way to run a decoder is the best on this machine: what it holds to be likely next is held against fp32, then it speaks, on few
lanes of many threads and many of few, in the usual slots and in fewer; the fastest that agrees wins.

Of all formats one is in memory at a time. In slices, as that of an encoder: see :mod:`workers.engines.calibration.slices`."""

import gc
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import torch

from workers.arrays import Ids
from workers.batches.activity import Activity
from workers.batches.outcomes import FailedRow
from workers.engines.calibration.attempts import Attempts
from workers.engines.calibration.decoder_candidates import DecoderCandidate, DecoderCandidates
from workers.engines.calibration.divergence import Likely
from workers.engines.calibration.findings import Finding, Trial
from workers.engines.calibration.held_texts import held_texts
from workers.engines.calibration.speaking import spoken
from workers.engines.calibration.trials import Slices
from workers.engines.calibration.verdicts import ranked, speed, why_untried
from workers.engines.contract.plan import EngineName, NumberFormat
from workers.engines.decoders.torch_decoder import TorchDecoder

MOST_DIVERGENCE: Final = 0.005  # nats, the mean over all held tokens
LEAST_AGREEMENT: Final = 0.96  # of the likeliest next tokens
HELD_TOKENS: Final = 384
TEXT_TOKENS: Final = 48  # of a held text; as many places are looked at together
PROMPT_TOKENS: Final = 16  # of those that are answered while it is timed: what takes long is to speak
TRIAL_SECONDS: Final = 1.0
ROUNDS: Final = 2  # of which the better counts
USUAL_SLOTS: Final = 32
FEWER_SLOTS: Final = 16
# Of the fastest: half the slots are half the memory of keys and values, and for each row half the wait for its next token.
AS_GOOD: Final = 0.9


class Way(NamedTuple):
    lanes: int
    threads: int
    slots: int


def calibration(
    candidates: DecoderCandidates,
    activity: Activity,
    *,
    model: str,
    weights: str,
    cores: int,
    engine: EngineName | None = None,
    number_format: NumberFormat | None = None,
    trial_seconds: float = TRIAL_SECONDS,
    tokens: int = HELD_TOKENS,
    attempts: Attempts | None = None,
) -> Slices[Finding]:
    """As that of encoders, with a trial for each way of each format. Some 60 s for a model of 270 million weights on two quiet cores."""
    began = time.perf_counter()
    bench = _Bench(candidates.reference, activity, attempts or Attempts(), cores, trial_seconds)
    yield from bench.prepare(tokens)
    tried: list[Trial] = []
    for candidate in candidates:
        if engine in {None, candidate.engine} and number_format in {None, candidate.format}:
            tried += yield from bench.tried(candidate)
    agree = [one for one in tried if one.verdict == "slower"]
    fit = agree or [one for one in tried if speed(one) and one.format in {number_format, candidates.reference.format}]
    if not fit:  # nothing of what was asked for runs here
        fit = yield from bench.tried(candidates.reference)
    unfit = [one for one in tried if one not in fit]
    seconds = time.perf_counter() - began
    order = ranked(fit, unfit, _leanest_of_the_fastest(fit))
    return Finding(model, weights, candidates.packed, bench.held, seconds, order, kind="decoder", disturbed=bench.disturbed)


@dataclass(slots=True)
class _Bench:
    """``truth``: of each batch of held texts, what fp32 holds to be likely."""

    reference: DecoderCandidate
    activity: Activity
    attempts: Attempts
    cores: int
    seconds: float
    truth: list[tuple[list[Ids], Likely]] = field(default_factory=list)
    held: int = 0  # tokens
    disturbed: bool = False
    _engine: tuple[str, TorchDecoder] | None = None

    def prepare(self, tokens: int) -> Slices[None]:
        engine = yield from self.engine_of(self.reference)
        for texts in _batches(engine, tokens):
            self.truth.append((texts, Likely.of(engine.logprobs(texts, exact=True))))
            self.held += sum(map(len, texts))
            yield

    def tried(self, candidate: DecoderCandidate) -> Slices[list[Trial]]:
        """A trial for each way, with the verdict "slower" for all that may still be chosen; one alone where none is timed."""
        if (why := why_untried(candidate, self.attempts)) is not None:
            return [Trial(candidate.engine, candidate.format, "not here", why)]
        try:
            with self.attempts.trying(candidate.name):
                engine = yield from self.engine_of(candidate)
                trial = yield from self.hold(candidate, engine)
        except Exception as error:  # a library that fails on this machine is one way fewer
            return [Trial(candidate.engine, candidate.format, "not here", f"it fails on this machine ({type(error).__name__})")]
        if trial.difference == float("inf"):
            return [trial]
        return (yield from self.timed(engine, trial))

    def hold(self, candidate: DecoderCandidate, engine: TorchDecoder) -> Slices[Trial]:
        apart, same = [], []
        for texts, truth in self.truth:
            found = engine.logprobs(texts, exact=False)
            apart.append(truth.divergence(found))
            same.append(truth.agrees(found))
            yield
        divergence, agreement = float(torch.cat(apart).mean()), float(torch.cat(same).float().mean())
        trial = Trial(candidate.engine, candidate.format, "slower", "", agreement, divergence)
        if not divergence < MOST_DIVERGENCE:  # nor where it is no number
            reason = f"{divergence:.4f} nats off fp32's distributions; under {MOST_DIVERGENCE} must be"
            return replace(trial, verdict="disagrees", reason=reason, difference=divergence if divergence >= 0 else float("inf"))
        if agreement < LEAST_AGREEMENT:
            return replace(trial, verdict="disagrees", reason=f"{agreement:.2%} of the tokens as in fp32; {LEAST_AGREEMENT:.0%} must be")
        return trial

    def timed(self, engine: TorchDecoder, trial: Trial) -> Slices[list[Trial]]:
        """On each split of the cores in the usual slots, and in fewer on the best one; where it disagrees, just so that people see
        what exactness costs."""
        splits = [Way(lanes, self.cores // lanes, USUAL_SLOTS) for lanes in _splits(self.cores)]
        trials = []
        for way in splits if trial.verdict == "slower" else splits[:1]:
            trials.append((yield from self.timed_once(engine, trial, way)))
        if trial.verdict == "slower":
            best = splits[trials.index(max(trials, key=speed))]
            trials.append((yield from self.timed_once(engine, trial, best._replace(slots=FEWER_SLOTS))))
        return trials

    def timed_once(self, engine: TorchDecoder, trial: Trial, way: Way) -> Slices[Trial]:
        prompts = [text[: min(PROMPT_TOKENS, engine.max_tokens // 2)] for texts, _ in self.truth for text in texts]
        sized = engine.sized(threads=way.threads, rows=way.slots)
        timings = yield from spoken(sized, prompts, way.lanes, self.seconds, ROUNDS, self.activity)
        self.disturbed |= all(one.disturbed for one in timings)
        rate = max((not one.disturbed, one.tokens_per_second) for one in timings)[1]
        return replace(trial, tokens_per_second=rate, lanes=way.lanes, threads=way.threads, slots=way.slots)

    def engine_of(self, candidate: DecoderCandidate) -> Slices[TorchDecoder]:
        """Whatever was loaded before it is let go first."""
        if self._engine is None or self._engine[0] != candidate.name:
            self._engine = None
            gc.collect()  # weights are in cycles
            self._engine = candidate.name, candidate.load(self.cores, 1)
            yield
        return self._engine[1]


def _batches(engine: TorchDecoder, tokens: int) -> Iterator[list[Ids]]:
    """Held texts of so many tokens together, as many at a time as fit a place count."""
    batch: list[Ids] = []
    for text in held_texts(-(-tokens // 8)):
        read = engine.tokenize_prompt(text)
        if isinstance(read, FailedRow):  # longer than the model reads
            continue
        ids = read[: min(TEXT_TOKENS, tokens)]
        if sum(map(len, batch)) + len(ids) > TEXT_TOKENS:
            yield batch
            batch = []
        batch.append(ids)
        tokens -= len(ids)
        if tokens <= 0:
            break
    yield batch


def _splits(cores: int) -> Iterator[int]:
    """Lanes: one a core, half as many, and so on, to one."""
    while cores:
        yield cores
        cores //= 2


def _leanest_of_the_fastest(trials: Sequence[Trial]) -> Trial:
    """The one with the fewest rows under way at once of those that are as good as the fastest."""
    fastest = max(map(speed, trials))
    return min(
        (one for one in trials if speed(one) >= AS_GOOD * fastest), key=lambda one: ((one.lanes or 1) * (one.slots or 0), -speed(one))
    )
