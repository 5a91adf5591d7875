"""From a registry entry to an engine that is ready to run, on the device this process is pinned to."""

import logging
import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from db.errors import TextmillError
from workers.engines import fake
from workers.engines.calibration.findings import Finding
from workers.engines.contract.decoding import DecoderEngine
from workers.engines.contract.engine import EncoderEngine, Engine
from workers.engines.contract.plan import DtypeChoice, EngineChoice, EngineName, NumberFormat, Plan, plan
from workers.machine.cores import cores
from workers.machine.cpu import cpu_flags
from workers.models.card import ModelCard
from workers.models.provision import ensure, weight_bytes, with_digest

if TYPE_CHECKING:
    from workers.engines.calibration.choice import Calibration, Choice
    from workers.engines.calibration.encoder_candidates import EncoderCandidate, EncoderCandidates

LAID_OUT: Final = 2  # times its files: as they are read, and as the engine lays them out

EngineT = TypeVar("EngineT", bound=Engine, covariant=True)

log = logging.getLogger("textmill.engines")


class EngineSettings(Protocol):
    @property
    def home(self) -> Path: ...
    @property
    def findings_folder(self) -> Path: ...
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
    @property
    def vllm_python(self) -> Path | None: ...


@dataclass(frozen=True, slots=True)
class LoadedEngine(Generic[EngineT]):
    """An engine that is ready to run, and how. ``is_open``: how it runs best on this machine is still to be found out, by `choice_for`."""

    engine: EngineT
    plan: Plan
    is_open: bool = False


def load_encoder(card: ModelCard, settings: EngineSettings) -> LoadedEngine[EncoderEngine]:
    """As this machine found it to run best, or in its safe way until it has found out; where a server runs it, as that does.

    Raises EngineAway where the server is away, OutOfMemory where the device has no room for it, TextmillError where a file is missing,
    broken, or not the registry's."""
    if card.is_fake:
        return LoadedEngine(fake.FakeEncoder(), _plan(card, settings, device="cpu"))
    if card.server is not None:
        from workers.engines.servers.loading import load_server_encoder

        return LoadedEngine(*load_server_encoder(card.server, settings.vllm_python))
    from workers.engines.calibration.encoder_candidates import EncoderCandidates  # brings torch
    from workers.engines.contract.torch_errors import translated

    device = _device(settings.device)
    if device != "cpu":
        folder = ensure(card, settings.home)
        candidates = EncoderCandidates(with_digest(card, folder), folder, cpu_flags(), device=device)
        candidate, made = on_gpu(candidates, _plan(card, settings, device=device), _asked(settings)[1])
        with translated():
            loaded = LoadedEngine(candidate.make(made), made)
    else:
        loaded = _chosen(choice_for(card, settings))
    log.info("%s: %s", card.id, loaded.plan.describe())
    return loaded


def on_gpu(candidates: "EncoderCandidates", made: Plan, number_format: NumberFormat | None) -> tuple["EncoderCandidate", Plan]:
    """How an encoder runs on a GPU: packed, in the plan's format or the one asked for; a family that transformers runs, padded and in fp32,
    as what no GPU engine computes here (int8)."""
    found = candidates.find("torch", number_format or made.format) if candidates.packed else None
    candidate = found or candidates.reference
    policy = replace(made.policy, padded=candidate.policy.padded)
    return candidate, replace(made, engine=candidate.engine, format=candidate.format, policy=policy)


def load_decoder(card: ModelCard, settings: EngineSettings) -> LoadedEngine[DecoderEngine]:
    """As `load_encoder`."""
    if card.is_fake:
        return LoadedEngine(fake.FakeDecoder(), _plan(card, settings, device="cpu"))
    if card.server is not None:
        from workers.engines.servers.loading import load_server_decoder

        return LoadedEngine(*load_server_decoder(card.server, settings.vllm_python))
    if card.openvino:
        return _load_openvino_decoder(card, settings)
    from workers.engines.contract.torch_errors import translated
    from workers.engines.decoders.torch_decoder import TorchDecoder

    device = _device(settings.device)
    if device != "cpu":
        made = _plan(card, settings, device=device)
        assert made.format != "int8"
        folder = ensure(card, settings.home)
        with translated():
            decoder = TorchDecoder(with_digest(card, folder), folder, device=device, number_format=made.format, policy=made.policy)
        loaded: LoadedEngine[DecoderEngine] = LoadedEngine(decoder, made)
    else:
        loaded = _chosen(choice_for(card, settings))
    log.info("%s: %s", card.id, loaded.plan.describe())
    return loaded


def _load_openvino_decoder(card: ModelCard, settings: EngineSettings) -> LoadedEngine[DecoderEngine]:
    """On the CPU, on one lane with all cores: nothing is left to find out."""
    from workers.engines.decoders.openvino_decoder import OpenVinoDecoder

    made = replace(_plan(card, settings, device="cpu"), engine="openvino", lanes=1, threads=cores())
    folder, exact = ensure(card, settings.home), settings.dtype in ("exact", "float32")
    decoder = OpenVinoDecoder(with_digest(card, folder), folder, policy=made.policy, threads=made.threads, exact=exact)
    return LoadedEngine(decoder, made)


def find_out(card: ModelCard, settings: EngineSettings, *, anew: bool = False) -> Finding:
    """The calibration of a model on this CPU: the one that is kept, or a new one, which then is."""
    if card.is_fake or card.server is not None or card.openvino:
        raise TextmillError(
            "Only a model that a worker runs itself, in more ways than one, is calibrated.", code="model_task_mismatch", status=400
        )
    return choice_for(card, settings).find_out(anew=anew)


def memory_of(card: ModelCard, settings: EngineSettings) -> int:
    """About how many bytes of this machine's memory it takes to load it: none where it goes to a GPU, or a server runs it. Raises as
    `load_encoder`."""
    if card.server is not None or card.is_fake or (not card.openvino and _device(settings.device) != "cpu"):
        return 0
    return LAID_OUT * weight_bytes(card, ensure(card, settings.home))


def choice_for(card: ModelCard, settings: EngineSettings) -> "Choice[Any]":
    """On a CPU. It may hold the model's weights, so let it go when it is made. Raises as `load_encoder`."""
    from workers.engines.calibration import choosing, choosing_decoders
    from workers.engines.calibration.choice import Choice
    from workers.engines.calibration.decoder_candidates import DecoderCandidates
    from workers.engines.calibration.encoder_candidates import EncoderCandidates

    folder = ensure(card, settings.home)
    card = with_digest(card, folder)
    engine, number_format = _asked(settings)
    candidates: EncoderCandidates | DecoderCandidates
    calibration: Calibration
    if card.kind == "encoder":
        candidates = EncoderCandidates(card, folder, cpu_flags())
        calibration = partial(choosing.calibration, candidates)
    else:
        candidates = DecoderCandidates(card, folder, cpu_flags())
        calibration = partial(choosing_decoders.calibration, candidates)
        engine, number_format = None, None if number_format == "int8" else number_format  # asked of encoders: decoders have no such way
    if not candidates.packed:
        log.info("%s is of a family that is run by transformers, padded and in fp32", card.id)
    return Choice(
        card,
        candidates,
        calibration,
        settings.findings_folder,
        engine=engine,
        number_format=number_format,
        lanes=settings.lanes,
        budget_tokens=settings.budget_tokens,
    )


def _chosen(choice: "Choice[Any]") -> LoadedEngine[Any]:
    from workers.engines.contract.torch_errors import translated

    known = choice.kept()
    with translated():
        engine, made = choice.load(known)
    return LoadedEngine(engine, made, choice.is_open(known))


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
