"""A sentence encoder or sequence classifier in OpenVINO: padded batches, attention and feed-forward fused by its CPU compiler.

The graph is built here, operator by operator, from the same weights as the packed engine: no export, no conversion step, nothing on disk.
int8 keeps the weights in 8 bits per output channel (symmetric) and lets OpenVINO quantise activations as they come, in groups
(`DYNAMIC_QUANTIZATION_GROUP_SIZE`): min-max ranges over a whole tensor, which static quantisation needs, moved 3 % of the labels here.

OpenVINO's Python package brings a telemetry client that reports over the network. It is kept out of the process before the first import.
"""

import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from workers.arrays import Ids, Vectors
from workers.batches.outcomes import OutOfMemory
from workers.engines.contract.plan import NumberFormat
from workers.engines.encoders.architecture import Affine, Architecture, read
from workers.engines.encoders.eight_bits import eight_bits as in_eight_bits
from workers.engines.encoders.house_encoder import HouseEncoder
from workers.engines.encoders.padding import Padded, pad
from workers.models.card import ModelCard

GROUP = 128  # inputs that share a scale; of 32 to 384, the fastest whose error is still near the weights' own
MASKED = -10_000.0  # added to the score of a padded place before the softmax


def import_openvino() -> Any:
    """The package, without its telemetry client. Raises ImportError where it is not installed."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None makes an import of it fail, which OpenVINO expects
    import openvino

    return openvino


def lacks_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or "bad_alloc" in str(error) or "out of memory" in str(error).lower()


class OpenVinoEncoder(HouseEncoder):
    """One compiled model with a stream for each lane; a lane's thread has a request of its own, and waits without the GIL."""

    padded = True

    def __init__(
        self,
        card: ModelCard,
        folder: Path,
        *,
        number_format: NumberFormat,
        lanes: int,
        threads: int,
        architecture: Architecture | None = None,
    ) -> None:
        openvino = import_openvino()
        made = architecture if architecture is not None else read(folder)
        super().__init__(card, folder, made, f"openvino-{number_format}")
        settings: dict[str, Any] = {
            "NUM_STREAMS": lanes,
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32" if number_format == "float32" else "bf16",
            "PERFORMANCE_HINT": "THROUGHPUT",
        }
        if number_format == "int8":
            settings["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = GROUP
        graph = _Graph(made, eight_bits=number_format == "int8").build()
        self._compiled = openvino.Core().compile_model(graph, "CPU", settings)
        self._requests = threading.local()

    def prepare(self, batch: Sequence[Ids]) -> Padded:
        return pad(batch)

    def run(self, padded: Padded) -> Vectors:
        request = getattr(self._requests, "mine", None)
        if request is None:
            request = self._requests.mine = self._compiled.create_infer_request()
        try:
            request.infer({0: padded.ids, 1: padded.mask}, share_inputs=True)
        except RuntimeError as error:
            if lacks_memory(error):
                raise OutOfMemory from None
            raise
        answers: Vectors = np.array(request.get_output_tensor(0).data, dtype=np.float32)
        return answers


class _Graph:
    """`ids` i32 [n, L] and `mask` f32 [n, L] -> f32 [n, outputs]."""

    def __init__(self, made: Architecture, *, eight_bits: bool) -> None:
        from openvino import opset13

        self._op: Any = opset13
        self._made = made
        self._eight_bits = eight_bits

    def build(self) -> Any:
        from openvino import Model, Type

        op, made = self._op, self._made
        ids = op.parameter([-1, -1], Type.i32, name="ids")
        mask = op.parameter([-1, -1], Type.f32, name="mask")
        hidden = self._norm(op.add(op.gather(self._weight(made.words), ids, self._index(0)), self._places(ids)), made.embedding_norm)
        unseen = op.multiply(op.subtract(mask, self._number(1.0)), self._number(-MASKED))
        scores_bias = op.unsqueeze(op.unsqueeze(unseen, self._index(1)), self._index(1))  # [n, 1, 1, L]
        for layer in made.layers:
            context = self._attention(self._linear(hidden, layer.query_key_value), scores_bias)
            hidden = self._norm(op.add(self._linear(context, layer.attention_output), hidden), layer.attention_norm)
            inner = self._activation(self._linear(hidden, layer.up))
            hidden = self._norm(op.add(self._linear(inner, layer.down), hidden), layer.output_norm)
        return Model([op.result(self._answers(hidden, mask))], [ids, mask], "encoder")

    def _places(self, ids: Any) -> Any:
        op = self._op
        length = op.gather(op.shape_of(ids, "i64"), self._indices(1), self._index(0))
        return op.slice(self._weight(self._made.places), self._indices(0), length, self._indices(1), self._indices(0))

    def _attention(self, query_key_value: Any, scores_bias: Any) -> Any:
        """[n, L, 3d] -> [n, L, d]"""
        op, heads, width = self._op, self._made.heads, self._made.width
        apart, swap = self._indices(0, 0, heads, width // heads), self._indices(0, 2, 1, 3)
        parts = op.split(query_key_value, self._index(-1), 3).outputs()
        query, key, value = (op.transpose(op.reshape(part, apart, True), swap) for part in parts)
        scores = op.multiply(op.matmul(query, key, False, True), self._number((width // heads) ** -0.5))
        seen = op.matmul(op.softmax(op.add(scores, scores_bias), -1), value, False, False)
        return op.reshape(op.transpose(seen, swap), self._indices(0, 0, width), True)

    def _answers(self, hidden: Any, mask: Any) -> Any:
        op, head = self._op, self._made.head
        if head is None and self._made.pooling == "mean":
            weights = op.unsqueeze(mask, self._index(2))
            total = op.reduce_sum(op.multiply(hidden, weights), self._indices(1), False)
            return self._unit(op.divide(total, op.reduce_sum(weights, self._indices(1), False)))
        first = op.gather(hidden, self._index(0), self._index(1))
        if head is None:
            return self._unit(first)
        dense = self._linear(first, head.dense, eight_bits=False)
        return self._linear(op.tanh(dense) if head.activation == "tanh" else op.relu(dense), head.out, eight_bits=False)

    def _unit(self, vectors: Any) -> Any:
        return self._op.normalize_l2(vectors, self._indices(1), 1e-12, "max")

    def _activation(self, hidden: Any) -> Any:
        if self._made.activation == "relu":
            return self._op.relu(hidden)
        return self._op.gelu(hidden, "tanh" if self._made.activation == "gelu_tanh" else "erf")

    def _norm(self, hidden: Any, norm: Affine) -> Any:
        op = self._op
        normal = op.mvn(hidden, self._indices(-1), True, self._made.epsilon, "inside_sqrt")
        return op.add(op.multiply(normal, self._weight(norm.weight)), self._weight(norm.bias))

    def _linear(self, hidden: Any, layer: Affine, *, eight_bits: bool | None = None) -> Any:
        op = self._op
        weight = self._weight(layer.weight)
        if self._eight_bits if eight_bits is None else eight_bits:
            small, scale = in_eight_bits(layer.weight)
            weight = op.multiply(op.convert(op.constant(small), "f32"), op.constant(scale))
        return op.add(op.matmul(hidden, weight, False, True), self._weight(layer.bias))

    def _weight(self, tensor: Tensor) -> Any:
        return self._op.constant(np.array(tensor.numpy(), order="C"))

    def _number(self, value: float) -> Any:
        return self._op.constant(np.float32(value))

    def _index(self, value: int) -> Any:
        return self._op.constant(np.array(value, np.int64))

    def _indices(self, *values: int) -> Any:
        return self._op.constant(np.array(values, np.int64))
