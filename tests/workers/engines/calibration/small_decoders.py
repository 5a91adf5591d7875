"""A decoder with small random weights as a calibration drives one, and ways of running it that are as exact as a test wants them."""

import weakref
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from typing import Any, ClassVar

import torch

from tests.workers.engines.decoders.families import loaded, model_of, prompt
from workers.arrays import Ids
from workers.engines.calibration.candidates import Candidate, Candidates
from workers.engines.contract.plan import CPU_DECODER, NumberFormat
from workers.engines.decoders.distributions import logprobs
from workers.engines.decoders.slots import TorchSlots

Spoil = Callable[[torch.Tensor], object]  # changes weights in place


class SmallDecoder:
    """What a calibration uses of a TorchDecoder."""

    max_tokens = 1024

    def __init__(self, spoil: Spoil) -> None:
        model = model_of("llama")
        with torch.no_grad():
            spoil(model.get_output_embeddings().weight)
        self._loaded = loaded(model)

    def tokenize_prompt(self, text: str) -> Ids:
        return prompt(len(text), 2 + len(text) % 40)

    def logprobs(self, texts: Sequence[Ids], *, exact: bool) -> torch.Tensor:
        return logprobs(self._loaded, texts, exact=exact)

    def sized(self, *, threads: int, rows: int) -> "SmallDecoder":
        other = copy(self)
        other._loaded = replace(self._loaded, threads=threads, rows=rows, tokens=100_000)
        return other

    def slots(self) -> TorchSlots:
        return TorchSlots(self._loaded)


class SmallCandidates(Candidates[Any]):
    """fp32 as it is, and another format for each way to spoil it. ``most``: that were in memory at once."""

    packed: ClassVar = True
    splits_cores: ClassVar = True

    def __init__(self, *, refused: str | None = None, **spoils: Spoil) -> None:
        self.most = 0
        self._refused = refused
        self._spoils: dict[str, Spoil] = {"float32": lambda _: None} | spoils
        self._alive: list[weakref.ref[SmallDecoder]] = []

    def __iter__(self) -> Iterator[Candidate[Any]]:
        for name, spoil in self._spoils.items():
            number_format: NumberFormat = name  # type: ignore[assignment]
            yield Candidate("torch", number_format, CPU_DECODER, self._maker(spoil), None if name == "float32" else self._refused)

    def _maker(self, spoil: Spoil) -> Callable[[object], SmallDecoder]:
        def make(_plan: object) -> SmallDecoder:
            engine = SmallDecoder(spoil)
            self._alive = [one for one in self._alive if one() is not None] + [weakref.ref(engine)]
            self.most = max(self.most, len(self._alive))
            return engine

        return make
