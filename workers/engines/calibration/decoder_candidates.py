"""The ways a decoder could be run here."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from workers.engines.calibration.candidates import Candidate, Candidates, Make, no_bf16
from workers.engines.contract.plan import CPU_DECODER, Format, Plan
from workers.engines.decoders.torch_decoder import TorchDecoder
from workers.models.card import ModelCard

DecoderCandidate = Candidate[TorchDecoder]


class DecoderCandidates(Candidates[TorchDecoder]):
    packed: ClassVar = True
    splits_cores: ClassVar = True

    def __init__(self, card: ModelCard, folder: Path, flags: frozenset[str]) -> None:
        self._card = card
        self._folder = folder
        self._flags = flags

    def __iter__(self) -> Iterator[DecoderCandidate]:
        yield Candidate("torch", "float32", CPU_DECODER, self._torch("float32"))
        yield Candidate("torch", "bfloat16", CPU_DECODER, self._torch("bfloat16"), no_bf16(self._flags))

    def _torch(self, number_format: Format) -> Make[TorchDecoder]:
        def make(plan: Plan) -> TorchDecoder:
            return TorchDecoder(
                self._card, self._folder, device="cpu", number_format=number_format, policy=plan.policy, threads=plan.threads
            )

        return make
