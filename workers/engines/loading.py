"""From a registry entry to an engine that is ready to run, on the device this process is pinned to."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from db.errors import TextmillError
from workers.engines import fake
from workers.engines.calibration import findings
from workers.engines.calibration.findings import Finding
from workers.engines.contract.cpu import cores, cpu_flags
from workers.engines.contract.engine import DecoderEngine, EncoderEngine
from workers.engines.contract.plan import DtypeChoice, EngineChoice, EngineName, NumberFormat, Plan, overridden, plan
from workers.models.card import ModelCard
from workers.models.provision import ensure, with_digest

if TYPE_CHECKING:
    from workers.engines.calibration.candidates import Candidate, Candidates

log = logging.getLogger("textmill.engines")


class EngineSettings(Protocol):
    @property
    def home(self) -> Path: ...
    @property
    def device(self) -> str: ...
    @property
    def lanes(self) -> int | None: ...
    @property
    def budget_tokens(self) -> int | None: ...
    @property
    def engine(self) -> EngineChoice: ...
    @property
    def dtype(self) -> DtypeChoice: ...


def load_encoder(card: ModelCard, settings: EngineSettings) -> tuple[EncoderEngine, Plan]:
    """Calibrates where this machine has not yet. Raises TextmillError where a file is missing, broken, or not the registry's."""
    if card.id == "fake-encoder":
        return fake.FakeEncoder(), _plan(card, settings, device="cpu")
    from workers.engines.calibration.candidates import Candidates  # brings torch

    folder = ensure(card, settings.home)
    card = with_digest(card, folder)
    device = _device(settings.device)
    if device != "cpu":
        made = _plan(card, settings, device=device)
        candidates = Candidates(card, folder, cpu_flags(), device=device)
        candidate = candidates.find("torch", made.format) or candidates.reference
    else:
        candidates = Candidates(card, folder, cpu_flags())
        made, candidate = _choose(card, candidates, settings)
    log.info("%s: %s", card.id, made.describe())
    if not candidates.packed:
        log.info("%s is of a family that is run by transformers, padded and in fp32", card.id)
    return candidate.load(made.lanes, made.threads), made


def find_out(card: ModelCard, settings: EngineSettings, *, anew: bool = False) -> Finding:
    """The calibration of an encoder on this CPU: the one that is kept, or a new one, which then is."""
    if card.kind != "encoder" or card.id == "fake-encoder":
        raise TextmillError("Only an encoder is calibrated.", code="model_task_mismatch", status=400)
    from workers.engines.calibration.candidates import Candidates

    folder = ensure(card, settings.home)
    card = with_digest(card, folder)
    return _found(card, Candidates(card, folder, cpu_flags()), settings, anew=anew)


def load_decoder(card: ModelCard, settings: EngineSettings) -> tuple[DecoderEngine, Plan]:
    """Raises TextmillError where a file is missing or its digest is not the registry's."""
    if card.id == "fake-decoder":
        return fake.FakeDecoder(), _plan(card, settings, device="cpu")
    from workers.engines.decoders.torch_decoder import TorchDecoder

    made = _plan(card, settings, device=_device(settings.device))
    assert made.format != "int8"
    return TorchDecoder(card, ensure(card, settings.home), device=made.device, number_format=made.format), made


def _choose(card: ModelCard, candidates: "Candidates", settings: EngineSettings) -> tuple[Plan, "Candidate"]:
    from workers.engines.calibration.choosing import plan_of

    engine, number_format = _asked(settings)
    possible = [one for one in candidates if engine in {None, one.engine} and number_format in {None, one.format}]
    here = [one for one in possible if one.refused is None]
    if not here and engine is None and number_format is not None and not candidates.packed:
        possible = here = [candidates.reference]  # there is one way only to run such a model, and fp32 is never less exact
    if not here:
        why = "; ".join(f"{one.name}: {one.refused}" for one in possible) or "there is no such engine for this model"
        raise TextmillError(
            f"{card.id} cannot be run as TEXTMILL_ENGINE and TEXTMILL_DTYPE ask ({why}). Leave them unset to let this machine choose.",
            code="engine_not_available",
        )
    if len(here) == 1:  # nothing to choose from
        made = Plan("cpu", here[0].format, cores(), here[0].policy, here[0].engine)
        return overridden(made, lanes=settings.lanes, budget_tokens=settings.budget_tokens), here[0]
    made, candidate = plan_of(_found(card, candidates, settings), candidates)
    return overridden(made, lanes=settings.lanes, budget_tokens=settings.budget_tokens), candidate


def _found(card: ModelCard, candidates: "Candidates", settings: EngineSettings, *, anew: bool = False) -> Finding:
    from workers.engines.calibration.choosing import calibrate

    engine, number_format = _asked(settings)
    home = settings.home.expanduser()
    key = findings.key_of(card.weights_version, cpu_flags(), cores(), engine=engine, number_format=number_format)
    with findings.alone(home):
        known = None if anew else findings.find(home, key)
        if known is not None:
            return known
        log.info("%s: calibrating on this machine, once; this takes up to a minute", card.id)
        made = calibrate(candidates, model=card.id, weights=card.weights_version, cores=cores(), engine=engine, number_format=number_format)
        findings.keep(home, key, made)
        return made


def _asked(settings: EngineSettings) -> tuple[EngineName | None, NumberFormat | None]:
    engine = None if settings.engine == "auto" else settings.engine
    if settings.dtype == "auto":
        return engine, None
    return engine, "float32" if settings.dtype == "exact" else settings.dtype


def _plan(card: ModelCard, settings: EngineSettings, *, device: str) -> Plan:
    return plan(card.kind, device=device, cpu_flags=cpu_flags(), cores=cores(), lanes=settings.lanes, budget_tokens=settings.budget_tokens)


def _device(wanted: str) -> str:
    """The process is pinned before torch is imported, so that the device it may use is the only one it sees."""
    if wanted == "cpu":
        return "cpu"
    import torch

    if wanted == "auto" and (os.environ.get("CUDA_VISIBLE_DEVICES") == "" or not torch.cuda.is_available()):
        return "cpu"
    return "cuda"
