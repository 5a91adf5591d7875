"""What is made of the trials of a calibration: which way is chosen, why none of the others, and how the chosen one is run."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from workers.engines.calibration.attempts import Attempts
from workers.engines.calibration.candidates import Candidate, Candidates, EngineT
from workers.engines.calibration.findings import Finding, Trial
from workers.engines.calibration.trials import Slices
from workers.engines.contract.plan import Plan

T = TypeVar("T")


def to_the_end(slices: Slices[T]) -> T:
    """All slices one after the other: for whoever has nothing else to do."""
    while True:
        try:
            next(slices)
        except StopIteration as done:
            found: T = done.value
            return found


def why_untried(candidate: Candidate[EngineT], attempts: Attempts) -> str | None:
    if candidate.refused is None and attempts.ended_processes(candidate.name):
        return "it ended the process that tried it, more than once"
    return candidate.refused


def ranked(fit: Sequence[Trial], unfit: Sequence[Trial], best: Trial) -> tuple[Trial, ...]:
    """The chosen one first, then by speed. ``best`` is one of ``fit``; where it disagrees, it was asked for all the same."""
    judged = [
        replace(
            trial,
            verdict="chosen",
            reason="the fastest that agrees with fp32" if trial.verdict == "slower" else "asked for, though " + trial.reason,
        )
        if trial is best
        else replace(trial, reason=f"{speed(trial) / (speed(best) or 1.0):.0%} of the chosen one's speed")
        for trial in fit
    ]
    return tuple(sorted([*judged, *unfit], key=lambda trial: (trial.verdict != "chosen", -speed(trial), trial.engine, trial.format)))


def plan_of(finding: Finding, candidates: Candidates[EngineT]) -> tuple[Plan, Candidate[EngineT]]:
    """How to run what was chosen, and its candidate."""
    chosen = finding.chosen
    candidate = candidates.find(chosen.engine, chosen.format)
    assert candidate is not None, "a finding is kept under a key that names all it depends on"
    policy = replace(
        candidate.policy,
        budget_tokens=chosen.budget_tokens or candidate.policy.budget_tokens,
        max_rows=chosen.slots or candidate.policy.max_rows,
    )
    return replace(candidate.plan(chosen.lanes or 1, chosen.threads or 1), policy=policy), candidate


def runs(trial: Trial) -> bool:
    return trial.verdict != "not here"


def speed(trial: Trial) -> float:
    return trial.tokens_per_second or 0.0
