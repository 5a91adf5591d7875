"""What a part of `make gpu` is given, and what it came to."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Verdict = Literal["pass", "miss", "could not run"]
Device = Literal["cuda", "cpu"]


class CannotRun(Exception):
    """A sentence: what this part needs and this machine has not. That is a failure of the run."""


@dataclass(frozen=True, slots=True)
class Setting:
    """``quick``: so little work that a CPU does it in seconds; figures then say nothing of a GPU. ``folder`` is the part's own."""

    device: Device
    quick: bool
    folder: Path

    @property
    def on_gpu(self) -> bool:
        return self.device == "cuda"


@dataclass(frozen=True, slots=True)
class Check:
    what: str
    passed: bool
    found: str = ""


@dataclass(slots=True)
class Finding:
    """``figures`` have their unit in their names. A part passes when each of its checks did."""

    checks: list[Check] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def check(self, what: str, passed: bool, found: object = "") -> None:
        self.checks.append(Check(what, bool(passed), str(found)))

    def at_most(self, what: str, value: float, most: float) -> None:
        """A figure that is no number passes nothing."""
        self.check(f"{what} ≤ {most:g}", value <= most, f"{value:.3g}")

    def at_least(self, what: str, value: float, least: float) -> None:
        self.check(f"{what} ≥ {least:g}", value >= least, f"{value:.3g}")

    @property
    def verdict(self) -> Verdict:
        return "pass" if self.checks and all(check.passed for check in self.checks) else "miss"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one part, as the report has it. ``why``: what kept it from running."""

    part: str
    proves: str
    verdict: Verdict
    seconds: float
    checks: list[Check] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    why: str = ""
