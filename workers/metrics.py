"""What a worker tells Prometheus. Labels are tasks, registry models and codes: no id, no tenant, no name that somebody chose."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final

from prometheus_client import Counter, Gauge, Histogram, Metric
from prometheus_client.registry import Collector

from workers.batches.outcomes import BatchReport, Load, Spoken
from workers.exporter import FAILED_ROWS, ProcessRegistry
from workers.stages import STAGES, StageSeconds

REGISTRY: Final = ProcessRegistry()
_counter = partial(Counter, registry=REGISTRY)
_gauge = partial(Gauge, registry=REGISTRY)
_histogram = partial(Histogram, registry=REGISTRY)

batches = _counter("textmill_batches", "Micro-batches run.", ["model"])
batch_rows = _counter("textmill_batch_rows", "Rows in micro-batches.", ["model"])
batch_tokens = _counter("textmill_batch_tokens", "Tokens in micro-batches, without padding.", ["model"])
padding_tokens = _counter("textmill_padding_tokens", "Tokens computed and thrown away.", ["model"])
budget_tokens = _counter("textmill_budget_tokens", "Tokens the micro-batches could have held.", ["model"])
batch_seconds = _histogram(
    "textmill_batch_seconds",
    "Time of one micro-batch on the device.",
    ["model"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5, 20),
)
lane_busy_seconds = _counter("textmill_lane_busy_seconds", "Time in which lanes ran micro-batches, summed over the lanes.", ["model"])
lanes = _gauge(
    "textmill_lanes", "Instances of the model that run at once; with textmill_lane_busy_seconds_total, how busy the device is.", ["model"]
)
stage_seconds = _counter(
    "textmill_stage_seconds",
    "Time of shards by stage: open, tokenise, queue, model (the rows' share of the lanes' time), seal, commit.",
    ["stage", "task"],
)
rows = _counter("textmill_rows", "Rows that got their result.", ["task", "model", "outcome"])
failed_rows = _counter(*FAILED_ROWS)
shards = _counter("textmill_shards", "Shards this worker held, by how that ended.", ["task", "end"])
shard_seconds = _histogram(
    "textmill_shard_seconds", "Time from claim to the last write.", ["task"], buckets=(0.1, 0.5, 1, 2, 5, 10, 20, 60, 180, 600)
)
claims = _counter("textmill_claims", "Claims of a shard.", ["by", "outcome"])
leases = _gauge("textmill_leases", "Shards in flight in this process.")
leases_lost = _counter("textmill_leases_lost", "Shards whose lease was gone before they were done: what was computed since is not stored.")
drains = _counter("textmill_drains", "Drains begun: by an operator, by a signal, by the memory ceiling, by a lost device.", ["why"])
planned_restarts = _counter("textmill_planned_restarts", "Ends at the memory ceiling; counted while the process drains.")
last_progress = _gauge(
    "textmill_last_progress_timestamp_seconds", "When this worker last ended a micro-batch, stored rows, or had nothing to do."
)

# Of decoders: each row when it has its answer, and what is under way when it is asked for.
prompt_tokens = _counter(
    "textmill_prompt_tokens",
    "Tokens of the prompts of answers, by how they came: computed, or cached (taken from a beginning that an earlier prompt shares).",
    ["model", "by"],
)
output_tokens = _counter("textmill_output_tokens", "Tokens of answers.", ["model"])
generations = _counter(
    "textmill_generations", "Answers, by how they ended: stop, length (cut at their longest), or scored (labels).", ["model", "ending"]
)
_LATENCIES: Final = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 180, 600)
slot_wait_seconds = _histogram(
    "textmill_slot_wait_seconds",
    "Time that a row of a shard in work waited for a slot.",
    ["model", "class"],
    buckets=_LATENCIES,
)
first_token_seconds = _histogram(
    "textmill_first_token_seconds",
    "Time from when a row of a shard in work was tokenised to its first token, the wait for a slot included.",
    ["model", "class"],
    buckets=_LATENCIES,
)
next_token_seconds = _histogram(
    "textmill_next_token_seconds",
    "Time between two tokens of a row, its mean: one a row.",
    ["model"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5),
)


class Decoders(Collector):
    """The gauges of the decoders that are loaded, set when somebody asks: a step has nothing to do with them. It stands before them in the
    registry, which asks one after the other."""

    def __init__(self) -> None:
        self._loads: Callable[[], Mapping[str, Load]] = dict

    def tell(self, loads: Callable[[], Mapping[str, Load]]) -> None:
        """Of the process's runtime."""
        self._loads = loads

    def collect(self) -> Iterable[Metric]:
        for gauge in _OF_DECODERS:
            gauge.clear()  # a model that is there no more
        for model, load in self._loads().items():
            _show(model, load)
        return ()

    def describe(self) -> Iterable[Metric]:
        return ()


decoders: Final = Decoders()
REGISTRY.register(decoders)
slots = _gauge("textmill_slots", "Rows that a decoder can have under way at once; of a server, that it is asked at once.", ["model"])
slots_in_use = _gauge("textmill_slots_in_use", "Rows that a decoder has under way.", ["model"])
kv_tokens = _gauge(
    "textmill_kv_tokens", "Tokens whose keys and values a decoder holds, of rows under way and of beginnings that prompts share.", ["model"]
)
kv_promised_tokens = _gauge(
    "textmill_kv_promised_tokens", "Tokens that a decoder's rows under way may come to: their prompts and their longest answers.", ["model"]
)
kv_most_tokens = _gauge(
    "textmill_kv_most_tokens",
    "As much may be promised; less for a while after memory ran out. A row that does not fit waits, even where there are slots.",
    ["model"],
)
waiting_rows = _gauge("textmill_waiting_rows", "Rows of shards in work that wait for a slot of a decoder, by class.", ["model", "class"])
waiting_tenants = _gauge("textmill_waiting_tenants", "Tenants of whom rows wait for a slot of a decoder.", ["model"])
waiting_largest_ratio = _gauge(
    "textmill_waiting_largest_ratio",
    "Of the tokens that wait for a slot of a decoder, the part of the tenant with the most; 1 where it waits alone.",
    ["model"],
)
waiting_longest_seconds = _gauge(
    "textmill_waiting_longest_seconds", "How long the row that came first of those that wait for a slot of a decoder has waited.", ["model"]
)
_OF_DECODERS: Final = (
    *(slots, slots_in_use, kv_tokens, kv_promised_tokens, kv_most_tokens),
    *(waiting_rows, waiting_tenants, waiting_largest_ratio, waiting_longest_seconds),
)


def observe_batch(model: str, report: BatchReport) -> None:
    batches.labels(model).inc()
    batch_rows.labels(model).inc(report.rows)
    batch_tokens.labels(model).inc(report.tokens)
    padding_tokens.labels(model).inc(report.padding_tokens)
    budget_tokens.labels(model).inc(report.budget_tokens)
    batch_seconds.labels(model).observe(report.seconds)
    lane_busy_seconds.labels(model).inc(report.seconds)
    lanes.labels(model).set(report.lanes)
    for spoken in report.spoken:
        _count(model, spoken)


def _count(model: str, spoken: Spoken) -> None:
    prompt_tokens.labels(model, "cached").inc(spoken.cached_tokens)
    prompt_tokens.labels(model, "computed").inc(spoken.prompt_tokens - spoken.cached_tokens)
    output_tokens.labels(model).inc(spoken.output_tokens)
    generations.labels(model, spoken.ending).inc()
    slot_wait_seconds.labels(model, spoken.work).observe(spoken.slot_seconds)
    if spoken.first_seconds is not None:
        first_token_seconds.labels(model, spoken.work).observe(spoken.first_seconds)
    if spoken.next_seconds is not None:
        next_token_seconds.labels(model).observe(spoken.next_seconds)


def _show(model: str, load: Load) -> None:
    slots.labels(model).set(load.slots)
    slots_in_use.labels(model).set(load.slots_in_use)
    if load.kv_tokens is not None:
        kv_tokens.labels(model).set(load.kv_tokens)
        kv_promised_tokens.labels(model).set(load.promised_tokens)
        kv_most_tokens.labels(model).set(load.most_tokens)
    for of_class, rows in load.waiting.items():
        waiting_rows.labels(model, of_class).set(rows)
    waiting_tenants.labels(model).set(load.tenants)
    waiting_largest_ratio.labels(model).set(load.largest_share)
    waiting_longest_seconds.labels(model).set(load.longest_seconds)


def observe_stages(task: str, stages: StageSeconds) -> None:
    for stage in STAGES:
        if seconds := getattr(stages, stage):
            stage_seconds.labels(stage, task).inc(seconds)


def count_failed_rows(task: str, rows_by_code: Mapping[str, int]) -> None:
    for code, count in rows_by_code.items():
        failed_rows.labels(task, code).inc(count)
