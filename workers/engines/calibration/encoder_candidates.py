"""The ways an encoder could be run here: torch without padding, OpenVINO and ONNX Runtime with it, transformers for other families."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from workers.engines.calibration.candidates import Candidate, Candidates, Make, missing, no_bf16, no_int8
from workers.engines.contract.engine import EncoderEngine
from workers.engines.contract.plan import CPU_ENCODER, CPU_PADDED_ENCODER, NumberFormat, Plan
from workers.engines.encoders.architecture import Architecture, NotOfThisShape, read
from workers.models.card import ModelCard

EncoderCandidate = Candidate[EncoderEngine]


class EncoderCandidates(Candidates[EncoderEngine]):
    """The weights are read once for all of them. Raises TextmillError "model_broken"."""

    splits_cores: ClassVar = False  # torch has one pool of threads a process, whatever the lanes

    def __init__(self, card: ModelCard, folder: Path, flags: frozenset[str], *, device: str = "cpu") -> None:
        self._card = card
        self._folder = folder
        self._flags = flags
        self._device = device
        self._architecture: Architecture | None
        try:
            self._architecture = read(folder)
        except NotOfThisShape:
            self._architecture = None

    @property
    def packed(self) -> bool:
        return self._architecture is not None

    def __iter__(self) -> Iterator[EncoderCandidate]:
        if self._architecture is None:
            yield Candidate("transformers", "float32", CPU_PADDED_ENCODER, self._transformers)
            return
        slow_bf16, slow_int8 = no_bf16(self._flags), no_int8(self._flags)
        no_openvino, no_onnx = missing("openvino"), missing("onnxruntime", "onnx")
        yield Candidate("torch", "float32", CPU_ENCODER, self._torch("float32"))
        yield Candidate("torch", "bfloat16", CPU_ENCODER, self._torch("bfloat16"), slow_bf16)
        yield Candidate("openvino", "float32", CPU_PADDED_ENCODER, self._openvino("float32"), no_openvino)
        yield Candidate("openvino", "bfloat16", CPU_PADDED_ENCODER, self._openvino("bfloat16"), no_openvino or slow_bf16)
        yield Candidate("openvino", "int8", CPU_PADDED_ENCODER, self._openvino("int8"), no_openvino or slow_int8)
        yield Candidate("onnx", "float32", CPU_PADDED_ENCODER, self._onnx("float32"), no_onnx)
        yield Candidate("onnx", "int8", CPU_PADDED_ENCODER, self._onnx("int8"), no_onnx or slow_int8)

    def _torch(self, number_format: NumberFormat) -> Make[EncoderEngine]:
        def make(_plan: Plan) -> EncoderEngine:
            from workers.engines.encoders.torch_encoder import TorchEncoder

            assert number_format != "int8"
            return TorchEncoder(self._card, self._folder, device=self._device, number_format=number_format, architecture=self._architecture)

        return make

    def _openvino(self, number_format: NumberFormat) -> Make[EncoderEngine]:
        def make(plan: Plan) -> EncoderEngine:
            from workers.engines.encoders.openvino_encoder import OpenVinoEncoder

            return OpenVinoEncoder(
                self._card,
                self._folder,
                number_format=number_format,
                lanes=plan.lanes,
                threads=plan.lanes * plan.threads,
                architecture=self._architecture,
            )

        return make

    def _onnx(self, number_format: NumberFormat) -> Make[EncoderEngine]:
        def make(plan: Plan) -> EncoderEngine:
            from workers.engines.encoders.onnx_encoder import OnnxEncoder

            return OnnxEncoder(self._card, self._folder, number_format=number_format, threads=plan.threads, architecture=self._architecture)

        return make

    def _transformers(self, _plan: Plan) -> EncoderEngine:
        from workers.engines.encoders.transformers_encoder import TransformersEncoder

        return TransformersEncoder(self._card, self._folder, device=self._device)
