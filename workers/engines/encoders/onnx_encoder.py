"""A sentence encoder or sequence classifier in ONNX Runtime: padded batches, from a graph that is built here (`onnx_graph.py`).

int8 keeps the weights in 8 bits per output and quantises activations as they come, with a scale for each token.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workers.arrays import Ids, Vectors
from workers.batches.outcomes import OutOfMemory
from workers.engines.contract.plan import NumberFormat
from workers.engines.encoders.architecture import Architecture, read
from workers.engines.encoders.house_encoder import HouseEncoder
from workers.engines.encoders.onnx_graph import OnnxGraph
from workers.engines.encoders.padding import Padded, pad
from workers.models.card import ModelCard

FATAL = 4  # what ONNX Runtime says of a lesser error quotes the values that it failed on
OUT_OF_MEMORY = ("bad_alloc", "failed to allocate", "out of memory")


def import_onnxruntime() -> Any:
    """The package, silent and without its telemetry, which sends to its makers and keeps a database and an id of this machine in the user's
    caches. The variable counts when it is loaded, and nothing later takes the files back. Raises ImportError where it is not installed."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    onnxruntime.set_default_logger_severity(FATAL)
    return onnxruntime


class OnnxEncoder(HouseEncoder):
    """One session, which lanes share. A call computes on the lane's own thread, with `threads` - 1 more, and without the GIL."""

    padded = True

    def __init__(
        self, card: ModelCard, folder: Path, *, number_format: NumberFormat, threads: int, architecture: Architecture | None = None
    ) -> None:
        onnxruntime = import_onnxruntime()
        made = architecture if architecture is not None else read(folder)
        super().__init__(card, folder, made, f"onnx-{number_format}")
        graph = OnnxGraph(made, eight_bits=number_format == "int8")
        options = _options(onnxruntime, threads)
        # The session copies them: none of these arrays is read after this.
        weights = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in graph.weights.values()]
        options.add_external_initializers(list(graph.weights), weights)
        self._session = onnxruntime.InferenceSession(graph.model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def prepare(self, batch: Sequence[Ids]) -> Padded:
        return pad(batch)

    def run(self, padded: Padded) -> Vectors:
        try:
            answers: Vectors = self._session.run(None, {"ids": padded.ids, "mask": padded.mask})[0]
        except MemoryError:
            raise OutOfMemory from None
        except Exception as error:  # its exceptions have no base of their own, and their words quote token ids
            if any(phrase in str(error).lower() for phrase in OUT_OF_MEMORY):
                raise OutOfMemory from None
            raise RuntimeError(f"ONNX Runtime failed ({type(error).__name__})") from None
        return answers


def _options(onnxruntime: Any, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = FATAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # a lane that waits leaves its core to the others
    options.enable_mem_pattern = False  # it keeps a plan for each shape that it ever saw
    return options
