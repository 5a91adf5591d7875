"""Files, jobs and their stories on the wire: what the server's answers are made of, and what the client gets. Times are Unix seconds."""

from typing import Final

import msgspec


class RowCounts(msgspec.Struct, frozen=True):
    total: int = 0
    completed: int = 0
    failed: int = 0

    @property
    def done(self) -> int:
        return self.completed + self.failed


class BatchFault(msgspec.Struct, frozen=True):
    """``rows``: of a job in which every row failed, how many did so with this code; ``line`` is that of the first."""

    code: str | None = None
    line: int | None = None
    message: str | None = None
    param: str | None = None
    rows: int | None = None


class BatchFaults(msgspec.Struct, frozen=True):
    object: str = "list"
    data: list[BatchFault] = []


class Usage(msgspec.Struct, frozen=True):
    input_tokens: int = 0
    input_tokens_details: dict[str, int] = msgspec.field(default_factory=lambda: {"cached_tokens": 0})
    output_tokens: int = 0
    output_tokens_details: dict[str, int] = msgspec.field(default_factory=lambda: {"reasoning_tokens": 0})
    total_tokens: int = 0


class Fault(msgspec.Struct, frozen=True):
    """What is wrong with a thing that is shown all the same."""

    code: str
    message: str


class WaitingFor(msgspec.Struct, frozen=True):
    """What keeps a job's rows from being worked on."""

    code: str
    message: str


class Budget(msgspec.Struct, frozen=True):
    """What a job may write, and for how long it may run."""

    max_output_tokens: int | None = None
    max_hours: float | None = None


class Forecast(msgspec.Struct, frozen=True):
    """What a job would take that was made now; what is not known is null, and ``unforeseen`` says why. ``late``: after its window.
    ``price``: where the operator set any."""

    rows: int
    input_tokens: int | None = None
    output_tokens: int | None = None
    worker_seconds: float | None = None
    expected_at: int | None = None
    late: bool = False
    price: float | None = None
    currency: str | None = None
    unforeseen: Fault | None = None


class JobWarning(msgspec.Struct, frozen=True):
    """What somebody should know of answers that look well. ``rows``: how many it is about."""

    code: str
    message: str
    rows: int


class StepState(msgspec.Struct, frozen=True):
    """A step of a chain. ``name``: None for who may not read. ``id``: its own batch, which has its results. ``skipped``: of its completed
    rows, once it has ended, how many it was not for."""

    name: str | None
    id: str
    endpoint: str
    model: str | None
    status: str
    counts: RowCounts = msgspec.field(name="request_counts", default=RowCounts())
    skipped: int | None = None
    in_progress_at: int | None = None
    ended_at: int | None = None


class RowStepLine(msgspec.Struct, frozen=True):
    """What a step made of a row. ``status``: completed, skipped, failed or open. ``answer``: by column. ``model``: with its version, once a
    model saw the row. ``claims``, ``crashes``, ``errors``, ``worker``, ``at``: of the shard that it lies in."""

    name: str | None
    id: str
    endpoint: str
    status: str
    model: str | None = None
    answer: dict[str, object] | None = None
    code: str | None = None
    message: str | None = None
    claims: int = 0
    crashes: int = 0
    errors: int = 0
    worker: str | None = None
    at: int | None = None


class RowLine(msgspec.Struct, frozen=True):
    """A row of a batch, by its number from 1, and its steps; of a batch that is no chain, one."""

    row: int
    steps: list[RowStepLine]
    line: int | None = None
    custom_id: str | None = None
    object: str = "batch.row"


class Extras(msgspec.Struct, frozen=True):
    """What textmill adds to the batch object. The files can be read while the job runs, once they have a row. ``readable_rows``: of a
    running job that was asked for by itself, how many of its first rows are done, none left out: as far as its files go now. ``metrics``:
    sums over the job, see :mod:`workers.shard.chunks`; ``recent_metrics``: of a running one that writes texts and was asked for by itself,
    sums over the shards about its first row that is not done, with their ``prompt_tokens``. ``input_filename``: while the input file is
    there. ``rows_per_second``: over the run so far. ``run_seconds``: since it began to run, until now or its last row.
    ``expected_at``: when it will be done, of a job that was made just now or asked for by itself; where that is not known, ``unforeseen``
    says why. ``promised_at``: the same as it was told when the job was made. ``end_code``: of one that its budget ended, what its rows
    that did not run are told.
    ``error``: metadata or file name do not open. ``steps``: of a chain, all, of which the batch itself is the last; ``step``: its own name
    there; ``chain_id``: of another step, the batch that is the last."""

    task: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    metrics: dict[str, float] | None = None
    recent_metrics: dict[str, float] | None = None
    shards: dict[str, int] | None = None
    rows_per_second: float | None = None
    run_seconds: float | None = None
    interactive: bool = False
    paused: bool = False
    retries: int = 0
    eta_seconds: float | None = None
    expected_at: int | None = None
    promised_at: int | None = None
    unforeseen: Fault | None = None
    budget: Budget | None = None
    end_code: str | None = None
    waiting_for: WaitingFor | None = None
    priority: int = 0
    readable_rows: int | None = None
    input_filename: str | None = None
    warnings: list[JobWarning] = []
    error: Fault | None = None
    steps: list[StepState] = []
    step: str | None = None
    chain_id: str | None = None


class Batch(msgspec.Struct, frozen=True):
    """A job, as the API shows it."""

    id: str
    endpoint: str
    status: str
    input_file_id: str
    created_at: int
    object: str = "batch"
    completion_window: str | None = None
    model: str | None = None
    errors: BatchFaults | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    in_progress_at: int | None = None
    expires_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    counts: RowCounts = msgspec.field(name="request_counts", default=RowCounts())
    usage: Usage = Usage()
    metadata: dict[str, str] | None = None
    textmill: Extras = Extras()

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def hex(self) -> str:
        return self.id.removeprefix("batch_")

    def line_id(self, row: int) -> str:
        """Of the line that the row has in the results, counted from 1."""
        return f"batch_req_{self.hex}{row - 1:08x}{f'{self.textmill.retries:04x}' if self.textmill.retries else ''}"

    @property
    def output_file(self) -> str | None:
        """Before the end the output is readable too, under a name that follows from the job's."""
        return self.output_file_id if self.ended else f"file-o{self.hex}"

    @property
    def error_file(self) -> str | None:
        return self.error_file_id if self.ended else f"file-e{self.hex}"


ENDED: Final = frozenset({"completed", "failed", "expired", "cancelled"})


class FileInfo(msgspec.Struct, frozen=True):
    id: str
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: str
    object: str = "file"
    expires_at: int | None = None
    status_details: str | None = None
    textmill: dict[str, int | bool | Fault] = {}


class LabelMetrics(msgspec.Struct, frozen=True):
    """Of the answers with the label, how many have it; of those that have it, how many were answered so; their harmonic mean."""

    precision: float
    recall: float
    f1: float


class Confusion(msgspec.Struct, frozen=True):
    """``share``: of the examples of ``label`` that were taken for another."""

    label: str
    taken_for: str
    share: float


class HeadMetrics(msgspec.Struct, frozen=True):
    """What heads that had not seen an example said to it, from 0 to 1: ``repeats`` times ``folds`` heads, each fitted without a fold.
    ``accuracy_low`` to ``accuracy_high``: the accuracy, 95 % sure. ``mean_score``: of the answers, about the accuracy where scores are
    true. ``confusions``: the most frequent ones. What a head of before says less of is None or empty."""

    folds: int
    accuracy: float
    macro_f1: float
    repeats: int = 1
    accuracy_low: float | None = None
    accuracy_high: float | None = None
    mean_score: float | None = None
    per_label: dict[str, LabelMetrics] = {}
    confusions: list[Confusion] = []


class Version(msgspec.Struct, frozen=True):
    """Of a head or a label set: ``version`` is its number, ``id`` what it is called. ``error``: it does not open."""

    id: str
    version: int
    created_at: int
    error: Fault | None = None


class Head(msgspec.Struct, frozen=True):
    """A version of a trained head. ``examples``: how many of each label; ``left_out``: of labels with too few, which it does not know.
    ``digest``: of its weights. ``versions``: all that are there, the newest first, of a head that was asked for by itself. ``error``: what
    it says of itself does not open."""

    id: str
    name: str | None
    version: int
    base: str
    digest: str
    created_at: int
    object: str = "head"
    labels: list[str] = []
    examples: dict[str, int] = {}
    left_out: dict[str, int] = {}
    metrics: HeadMetrics | None = None
    versions: list[Version] | None = None
    error: Fault | None = None


class ShardLine(msgspec.Struct, frozen=True):
    """A shard of a job. ``epoch``: one more at each claim; ``worker``: who holds it, or held it last."""

    first_row: int
    end_row: int
    state: str
    epoch: int = 0
    crashes: int = 0
    errors: int = 0
    last_error: str | None = None
    worker: str | None = None
    completed: int = 0
    failed: int = 0
    progressed_at: int | None = None
    lease_expires_at: int | None = None
    not_before: int | None = None


class StateTotal(msgspec.Struct, frozen=True):
    state: str
    shards: int
    rows: int
    crashes: int = 0
    errors: int = 0


class WorkerTotal(msgspec.Struct, frozen=True):
    worker: str
    shards: int
    rows: int


class Story(msgspec.Struct, frozen=True):
    """How a job went: the shards worth telling of, and totals of all by state and by who held them last."""

    object: str = "job_story"
    shards: list[ShardLine] = []
    totals: list[StateTotal] = []
    workers: list[WorkerTotal] = []
