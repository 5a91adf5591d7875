"""What a worker and a dispatcher can be told, by environment (``TEXTMILL_…``): checked together, at start."""

import re
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import NoDecode

from db.lifecycle import HEARTBEAT_SECONDS, LEASE_SECONDS, POLL_SECONDS
from db.settings import StoreSettings
from workers.engines.contract.plan import DtypeChoice, EngineChoice
from workers.exporter import LOOPBACK
from workers.tasks.reading import MAX_LABELS

DEVICE: Final = re.compile(r"auto|cpu|cuda:\d{1,3}|(GPU|MIG)-[0-9A-Za-z/-]{1,80}")
# Bounds. Shorter, and a loop does nothing but come round; longer, and a typing error stands still for ever, unnoticed.
LEAST_SECONDS: Final = 0.01
HOUR: Final = 3600.0
DAY: Final = 24 * HOUR
YEAR: Final = 366 * DAY
MOST_DAYS: Final = 36_525  # a century
MOST_TOKENS: Final = 1 << 20
MOST_MB: Final = 1 << 24  # 16 TiB
SHARE: Final = re.compile(r"([1-9]\d?)/([1-9]\d?)")


class MetricsSettings(StoreSettings):
    """Where a process without an address of its own shows its metrics."""

    metrics_port: int | None = Field(
        default=None, ge=1, le=65535, description="Where `/metrics` of the process is served, without a key. Without it: nowhere."
    )
    metrics_host: str = Field(
        default=LOOPBACK,
        min_length=1,
        description="The address on which it is served: `0.0.0.0` for all, or one that only Prometheus reaches.",
    )


class WorkerSettings(MetricsSettings):
    """Settings of one worker process: one device, several shards in flight.

    ``threads`` are shards in flight: enough that the micro-batcher always has rows waiting while one shard is being opened and another
    written. They are not CPU threads; ``lanes`` are (model instances that run at once; None: the engine measures).
    """

    device: str = Field(
        default="auto",
        description="`auto`, `cpu`, `cuda:N` (the N-th of those that CUDA_VISIBLE_DEVICES leaves; without it as nvidia-smi counts), or the "
        "UUID of a GPU or of a MIG slice, which may be cut short. One worker a device.",
    )
    device_share: str = Field(
        default="1/1",
        description="Which of how many workers on one GPU this is, as `2/3`: they share that GPU's cores. `textmill up` sets it.",
    )
    threads: int = Field(default=4, ge=1, le=64, description="Shards in flight at once.")
    lanes: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="Instances of a model that run at once. Without it: as calibration chose, else one a core, and one on a GPU.",
    )
    budget_tokens: int | None = Field(
        default=None, ge=64, le=MOST_TOKENS, description="Tokens of a micro-batch. Without it: as calibration chose."
    )
    engine: EngineChoice = Field(
        default="auto", description="What runs encoders on a CPU. `auto`: the fastest that agrees with fp32; any other is taken as it is."
    )
    dtype: DtypeChoice = Field(
        default="auto",
        description="The number format on a CPU. `exact` is `float32`; any is taken even where it disagrees, `int8` by encoders alone.",
    )
    vllm_python: Path | None = Field(
        default=None,
        description="The Python of an environment of its own that has vLLM, which runs the models of the registry file with `engine = "
        '"vllm"`, each as a child of the worker.',
    )
    calibration_folder: Path | None = Field(
        default=None,
        description="Where what calibration finds is kept, from one start to the next. Without it: `calibration` in the home. One that "
        "cannot be written to costs a calibration at each start.",
    )
    models: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Loaded before a worker is ready. Without it the first that classifies, right after the start; others at first use.",
    )
    lease_seconds: float = Field(
        default=LEASE_SECONDS, ge=1, le=3600, description="How long a shard is held without a renewal: more than twice the heartbeat."
    )
    heartbeat_seconds: float = Field(
        default=HEARTBEAT_SECONDS, ge=LEAST_SECONDS, le=HOUR, description="Between two renewals of all leases of the process."
    )
    poll_seconds: float = Field(
        default=POLL_SECONDS, ge=LEAST_SECONDS, le=HOUR, description="Between two looks for work without a message."
    )
    drain_seconds: float = Field(
        default=25.0, ge=0, le=DAY, description="What shards in flight get to finish at SIGTERM: below the 30 s most supervisors wait."
    )
    chunk_seconds: float = Field(
        default=2.0, ge=LEAST_SECONDS, le=HOUR, description="Work between two writes of a shard. A crash costs two of these at most."
    )
    hang_seconds: float = Field(
        default=1800.0,
        ge=1,
        le=DAY,
        description="A micro-batch that takes longer ends the process: more than a full batch of the longest generations.",
    )
    max_memory_mb: int | None = Field(
        default=None,
        ge=64,
        le=MOST_MB,
        description="In MiB: above it the worker drains and ends with exit code 76, to be started afresh. Without it: nine tenths of what "
        "its container or unit may use, where that is limited.",
    )
    unload_seconds: float = Field(
        default=1800.0,
        ge=0,
        le=YEAR,
        description="A model that nobody used for so long is unloaded, but for `TEXTMILL_MODELS`; it is loaded again when it is asked for. "
        "0: none is. Where memory is short of `TEXTMILL_MAX_MEMORY_MB`, any that is idle goes, the least recently used first.",
    )
    max_labels: int = Field(default=MAX_LABELS, ge=2, le=100_000, description="Labels of a row; more fail it.")

    @field_validator("models", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        if not DEVICE.fullmatch(value):
            raise ValueError("TEXTMILL_DEVICE is auto, cpu, cuda:N with N the number nvidia-smi shows, or a UUID as GPU-… or MIG-…")
        return value

    @field_validator("device_share")
    @classmethod
    def _known_share(cls, value: str) -> str:
        found = SHARE.fullmatch(value)
        if found is None or int(found[1]) > int(found[2]):
            raise ValueError("it is written as 2/3, for the second of three workers on one GPU")
        return value

    @model_validator(mode="after")
    def _timing_fits(self) -> Self:
        if self.lease_seconds <= 2 * self.heartbeat_seconds:
            raise ValueError(
                "TEXTMILL_LEASE_SECONDS must be more than twice TEXTMILL_HEARTBEAT_SECONDS, or one lost heartbeat loses the lease"
            )
        return self

    @property
    def findings_folder(self) -> Path:
        """Where what calibration finds is kept."""
        return (self.calibration_folder or self.home / "calibration").expanduser()

    @property
    def share(self) -> tuple[int, int]:
        """Of the workers on this one's GPU: its number, from 1, and how many they are."""
        which, _, of = self.device_share.partition("/")
        return int(which), int(of)

    @property
    def fence_margin_seconds(self) -> float:
        """How long before its lease ends a worker that could not renew stops calling the model."""
        return min(5.0, self.lease_seconds / 4)


class DispatcherSettings(MetricsSettings):
    """Settings of the dispatcher and the reconciler inside it."""

    tick_seconds: float = Field(
        default=0.25,
        ge=LEAST_SECONDS,
        le=60,
        description="Between two rounds while there is work; a shard is seconds of work, so no worker waits for it.",
    )
    idle_tick_seconds: float = Field(
        default=1.0, ge=LEAST_SECONDS, le=60, description="Between two rounds otherwise: what a new job waits at most."
    )
    window: int = Field(
        default=64,
        ge=1,
        le=100_000,
        description="Messages in Redis at once: enough for 16 workers, few enough that turns are decided late.",
    )
    shard_seconds: float = Field(
        default=8.0,
        ge=LEAST_SECONDS,
        le=HOUR,
        description="Work of one worker thread in a shard; claiming and writing one takes some 20 ms.",
    )
    reap_seconds: float = Field(default=1.0, ge=LEAST_SECONDS, le=60, description="Between two looks for leases that ran out.")
    stale_upload_seconds: float = Field(
        default=DAY, ge=60, le=YEAR, description="An upload that stood still for so long will not be finished, and is removed."
    )
    keep_files_days: float | None = Field(
        default=None,
        ge=1,
        le=MOST_DAYS,
        description="Uploaded files are deleted so long after their upload, once no job reads them. Without it: none is.",
    )
    keep_results_days: float | None = Field(
        default=None,
        ge=1,
        le=MOST_DAYS,
        description="The results of a job, and its shards, are deleted so long after its end; the job itself stays. Without it: never.",
    )
    keep_jobs_days: float | None = Field(
        default=None,
        ge=1,
        le=MOST_DAYS,
        description="A job is deleted so long after its end, with all that is left of it. Without it: never.",
    )
