"""From a registry entry to an engine that is ready to run, on the device this process is pinned to."""

import os
from pathlib import Path
from typing import Protocol

from workers.engines import fake
from workers.engines.base import DecoderEngine, EncoderEngine
from workers.engines.plan import Plan, cores, cpu_flags, plan
from workers.models.provision import ensure
from workers.models.registry import ModelCard


class EngineSettings(Protocol):
    @property
    def home(self) -> Path: ...
    @property
    def device(self) -> str: ...
    @property
    def lanes(self) -> int | None: ...
    @property
    def budget_tokens(self) -> int | None: ...


def load_encoder(card: ModelCard, settings: EngineSettings) -> tuple[EncoderEngine, Plan]:
    """Raises TextmillError where a file is missing or its digest is not the registry's."""
    if card.id == "fake-encoder":
        return fake.FakeEncoder(), _plan(card, settings, device="cpu")
    from workers.engines.torch_encoder import TorchEncoder

    made = _plan(card, settings, device=_device(settings.device))
    return TorchEncoder(card, ensure(card, settings.home), device=made.device, number_format=made.format), made


def load_decoder(card: ModelCard, settings: EngineSettings) -> tuple[DecoderEngine, Plan]:
    """Raises TextmillError where a file is missing or its digest is not the registry's."""
    if card.id == "fake-decoder":
        return fake.FakeDecoder(), _plan(card, settings, device="cpu")
    from workers.engines.torch_decoder import TorchDecoder

    made = _plan(card, settings, device=_device(settings.device))
    return TorchDecoder(card, ensure(card, settings.home), device=made.device, number_format=made.format), made


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
