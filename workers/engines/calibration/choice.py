"""The choice of a way to run one model on this CPU: what was asked for, what is known, and how more is found out."""

from dataclasses import replace
from pathlib import Path
from typing import Generic, Protocol

from db.errors import TextmillError
from workers.batches.activity import Activity
from workers.engines.calibration import findings
from workers.engines.calibration.attempts import Attempts
from workers.engines.calibration.candidates import Candidate, Candidates, EngineT
from workers.engines.calibration.findings import Finding
from workers.engines.calibration.slices import MOST_TRIES
from workers.engines.calibration.trials import Slices
from workers.engines.calibration.verdicts import plan_of, to_the_end
from workers.engines.contract.plan import EngineName, NumberFormat, Plan, overridden, plan
from workers.machine.cores import cores
from workers.machine.cpu import cpu_flags
from workers.models.card import ModelCard


class Calibration(Protocol):
    """How the candidates of a choice are held against each other, each time anew."""

    def __call__(
        self,
        activity: Activity,
        *,
        model: str,
        weights: str,
        cores: int,
        engine: EngineName | None,
        number_format: NumberFormat | None,
        attempts: Attempts | None,
    ) -> Slices[Finding]: ...


class Choice(Generic[EngineT]):
    """Parameters: ``calibration`` tries the candidates; ``folder`` keeps what is found; ``engine`` and ``number_format`` narrow it, None
    leaves both open; ``lanes`` and ``budget_tokens`` win over any finding.

    Raises TextmillError "engine_not_available" where nothing of what was asked for runs here.
    """

    def __init__(
        self,
        card: ModelCard,
        candidates: Candidates[EngineT],
        calibration: Calibration,
        folder: Path,
        *,
        engine: EngineName | None,
        number_format: NumberFormat | None,
        lanes: int | None = None,
        budget_tokens: int | None = None,
    ) -> None:
        self._card = card
        self._candidates = candidates
        self._calibration = calibration
        self.folder = folder
        self._engine = engine
        self._format = number_format
        self._lanes = lanes
        self._budget_tokens = budget_tokens
        self._key = findings.key_of(card.weights_version, cpu_flags(), cores(), engine=engine, number_format=number_format)
        self._here = self._possible()

    @property
    def model_id(self) -> str:
        return self._card.id

    def kept(self) -> Finding | None:
        """What this machine knows: the finding that it keeps, or None."""
        return findings.find(self.folder, self._key)

    def is_open(self, finding: Finding | None) -> bool:
        """Whether there is more to find out than this."""
        splits = self._candidates.splits_cores and cores() > 1 and self._format is None and self._lanes is None
        many = len(self._here) > 1 or splits
        return many and (finding is None or (finding.disturbed and finding.tries < MOST_TRIES))

    def way(self, finding: Finding | None) -> tuple[Plan, Candidate[EngineT]]:
        """What the finding chose; without one the safe way: in torch, in the format that the CPU's flags suggest."""
        if finding is None:
            flagged = plan(self._card.kind, device="cpu", cpu_flags=cpu_flags(), cores=cores()).format
            safe = next((one for one in self._here if (one.engine, one.format) == ("torch", flagged)), self._here[0])
            made, candidate = safe.plan(cores(), 1), safe
        else:
            made, candidate = plan_of(finding, self._candidates)
        if self._candidates.splits_cores and self._lanes is not None:
            made = replace(made, threads=max(1, cores() // self._lanes))
        return overridden(made, lanes=self._lanes, budget_tokens=self._budget_tokens), candidate

    def load(self, finding: Finding | None) -> tuple[EngineT, Plan]:
        made, candidate = self.way(finding)
        return candidate.make(made), made

    def slices(self, activity: Activity) -> Slices[Finding]:
        """Finds out, beside the work that ``activity`` knows of."""
        return self._slices(activity, findings.attempts(self.folder, self._key))

    def keep(self, found: Finding, before: Finding | None) -> Finding:
        """Keeps it, counted. ``before``: the finding that it takes the place of."""
        counted = replace(found, tries=1 if before is None else before.tries + 1)
        findings.keep(self.folder, self._key, counted)
        return counted

    def find_out(self, *, anew: bool = False) -> Finding:
        """In the foreground: what is kept, or else a new one, which then is."""
        with findings.alone(self.folder):
            known = None if anew else self.kept()
            if known is not None:
                return known
            found = to_the_end(self._slices(Activity(), None if anew else findings.attempts(self.folder, self._key)))
            return self.keep(found, None)

    def _slices(self, activity: Activity, attempts: Attempts | None) -> Slices[Finding]:
        return self._calibration(
            activity,
            model=self._card.id,
            weights=self._card.weights_version,
            cores=cores(),
            engine=self._engine,
            number_format=self._format,
            attempts=attempts,
        )

    def _possible(self) -> list[Candidate[EngineT]]:
        possible = [one for one in self._candidates if self._engine in {None, one.engine} and self._format in {None, one.format}]
        here = [one for one in possible if one.refused is None]
        if not here and self._engine is None and self._format is not None and not self._candidates.packed:
            return [self._candidates.reference]  # there is one way only to run such a model, and fp32 is never less exact
        if not here:
            why = "; ".join(f"{one.name}: {one.refused}" for one in possible) or "there is no such engine for this model"
            raise TextmillError(
                f"{self._card.id} cannot be run as TEXTMILL_ENGINE and TEXTMILL_DTYPE ask ({why}). "
                "Leave them unset to let this machine choose.",
                code="engine_not_available",
            )
        return here
