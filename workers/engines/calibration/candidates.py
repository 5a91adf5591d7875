"""The ways an encoder could be run on this machine, and how each is loaded. A package that is not installed is one way fewer, no error."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from workers.batches.policy import Policy
from workers.engines.contract.engine import EncoderEngine
from workers.engines.contract.plan import CPU_ENCODER, CPU_PADDED_ENCODER, EngineName, NumberFormat
from workers.engines.encoders.architecture import Architecture, NotOfThisShape, read
from workers.machine.cpu import BF16_FLAGS
from workers.models.card import ModelCard

VNNI_FLAGS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})

Load = Callable[[int, int], EncoderEngine]  # (lanes, threads a lane)


@dataclass(frozen=True, slots=True)
class Candidate:
    """`refused` says why it cannot run here; then `load` must not be called. `policy` is what it starts from."""

    engine: EngineName
    format: NumberFormat
    policy: Policy
    load: Load
    refused: str | None = None

    @property
    def name(self) -> str:
        return f"{self.engine} {self.format}"


class Candidates:
    """Of one model in one folder. The weights are read once for all of them. Raises TextmillError "model_broken"."""

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
        """Whether the model is of a shape that runs without padding."""
        return self._architecture is not None

    @property
    def reference(self) -> Candidate:
        """fp32, what the others are held against."""
        return next(iter(self))

    def __iter__(self) -> Iterator[Candidate]:
        if self._architecture is None:
            yield Candidate("transformers", "float32", CPU_PADDED_ENCODER, self._transformers)
            return
        no_bf16 = None if self._flags & BF16_FLAGS else "this CPU does not multiply bf16 in hardware"
        no_int8 = None if self._flags & VNNI_FLAGS else "this CPU has no int8 dot product (VNNI)"
        no_openvino = _missing("openvino")
        no_onnx = _missing("onnxruntime", "onnx")
        yield Candidate("torch", "float32", CPU_ENCODER, self._torch("float32"))
        yield Candidate("torch", "bfloat16", CPU_ENCODER, self._torch("bfloat16"), no_bf16)
        yield Candidate("openvino", "float32", CPU_PADDED_ENCODER, self._openvino("float32"), no_openvino)
        yield Candidate("openvino", "bfloat16", CPU_PADDED_ENCODER, self._openvino("bfloat16"), no_openvino or no_bf16)
        yield Candidate("openvino", "int8", CPU_PADDED_ENCODER, self._openvino("int8"), no_openvino or no_int8)
        yield Candidate("onnx", "float32", CPU_PADDED_ENCODER, self._onnx("float32"), no_onnx)
        yield Candidate("onnx", "int8", CPU_PADDED_ENCODER, self._onnx("int8"), no_onnx or no_int8)

    def find(self, engine: EngineName, number_format: NumberFormat) -> Candidate | None:
        return next((one for one in self if one.engine == engine and one.format == number_format), None)

    def _torch(self, number_format: NumberFormat) -> Load:
        def load(_lanes: int, _threads: int) -> EncoderEngine:
            from workers.engines.encoders.torch_encoder import TorchEncoder

            assert number_format != "int8"
            return TorchEncoder(self._card, self._folder, device=self._device, number_format=number_format, architecture=self._architecture)

        return load

    def _openvino(self, number_format: NumberFormat) -> Load:
        def load(lanes: int, threads: int) -> EncoderEngine:
            from workers.engines.encoders.openvino_encoder import OpenVinoEncoder

            return OpenVinoEncoder(
                self._card,
                self._folder,
                number_format=number_format,
                lanes=lanes,
                threads=lanes * threads,
                architecture=self._architecture,
            )

        return load

    def _onnx(self, number_format: NumberFormat) -> Load:
        def load(_lanes: int, threads: int) -> EncoderEngine:
            from workers.engines.encoders.onnx_encoder import OnnxEncoder

            return OnnxEncoder(self._card, self._folder, number_format=number_format, threads=threads, architecture=self._architecture)

        return load

    def _transformers(self, _lanes: int, _threads: int) -> EncoderEngine:
        from workers.engines.encoders.transformers_encoder import TransformersEncoder

        return TransformersEncoder(self._card, self._folder, device=self._device)


def _missing(*packages: str) -> str | None:
    """Why an engine that needs them cannot run here, or None."""
    return next((f"the package {name} is not installed" for name in packages if find_spec(name) is None), None)
