"""A request for a batch or a head, checked and turned into a job. Reads the store (files, heads, label sets), writes nothing."""

import hashlib
import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal, NamedTuple
from urllib.parse import quote
from uuid import UUID, uuid4

import msgspec
from msgspec import Meta

from api.endpoints import TASKS
from api.errors import Refused
from api.objects import file_not_found, parse_file_id
from api.requests.addresses import path_holds_key
from api.requests.budgets import Budget, checked_budget
from api.requests.content_fields import checked
from api.requests.prompts import check_names, find_prompt
from api.requests.step_plans import RowsPlan, StepPlan
from api.requests.writers import check_columns, find_writer
from db.actors import Actor
from db.audit.damage import DAMAGED
from db.catalogue.heads import HeadRecord, find_head
from db.catalogue.label_sets import LabelSetRecord, find_label_set
from db.catalogue.names import JobNames, names_for_job
from db.connect import Store
from db.errors import NotFound, TextmillError
from db.failures import describe, parts_of
from db.files.columns import table_of_file
from db.files.stored_names import Names
from db.jobs.creating import NewJob, RequestRef
from db.jobs.jobs import JobRecord, get_job
from db.jobs.versions import is_address
from db.lifecycle import INTERACTIVE_PRIORITY
from workers.content.masks import Redact, redact_spec
from workers.content.prompts import Prompt
from workers.content.writer import TemplateWriter
from workers.models import registry
from workers.tasks import train
from workers.tasks.reading import check_defaults, check_pair
from workers.tasks.task import HEAD_PREFIX, Task
from workers.tasks.writers import PREFIXES, writer_name

MAX_ROWS: Final = 2**31 - 1
MAX_METADATA_PAIRS: Final = 16
MAX_METADATA_KEY_CHARS: Final = 64
MAX_METADATA_VALUE_CHARS: Final = 512
MAX_PRIORITY: Final = INTERACTIVE_PRIORITY - 1
PRIORITIES: Final = {"interactive": INTERACTIVE_PRIORITY, "bulk": 0}
MAX_NAME_CHARS: Final = 256
WINDOW_SECONDS: Final = (60, 30 * 86_400)
WINDOW_MESSAGE: Final = (
    "The completion window is a whole number with m, h or d, such as 24h, or a date or time at which it ends, such as 2026-01-31 or"
    " 2026-01-31T06:00:00Z; it is from one minute to 30 days long."
)
_WINDOW: Final = re.compile(r"([1-9][0-9]{0,5})([mhd])")
_UNIT_SECONDS: Final = {"m": 60, "h": 3_600, "d": 86_400}
_LABEL_CODES: Final = frozenset(
    {"too_few_labels", "too_many_labels", "duplicate_label", "empty_label", "missing_labels", "labels_too_long"}
)


Window = Annotated[
    str, Meta(description="A length (`15m`, `24h`, `7d`), a date (until its end, UTC), or a time with its zone; one minute to 30 days.")
]
Metadata = Annotated[dict[str, str], Meta(description="Up to 16 pairs: keys of 64 characters, values of 512. Kept sealed.")]


class OutputExpiresAfter(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    anchor: Literal["created_at"]
    seconds: Annotated[int, Meta(ge=3_600, le=2_592_000)]


class BatchPlan(RowsPlan, forbid_unknown_fields=True, kw_only=True):
    """What is known of a batch before its file is sent.

    ``priority`` and ``defaults`` are ours: they come in the client's ``extra_body``. Defaults are laid under every row's body.

    A priority is "interactive" (somebody waits: a small job before all bulk), "bulk", or a number that orders one's own bulk jobs.
    """

    steps: Annotated[
        list[StepPlan] | None,
        Meta(description="Of a chain, 2 to 8 objects of `name` and what a batch says of its rows. Each reads what those before it made."),
    ] = None
    completion_window: Window = "24h"
    metadata: Metadata | None = None
    output_expires_after: Annotated[
        OutputExpiresAfter | None,
        Meta(description="The output and the error file are deleted so long after they are made, at the job's end. Without it they stay."),
    ] = None
    priority: Annotated[
        int | str, Meta(description="`interactive` (at most 256 rows, before all bulk), `bulk`, or -99 to 99: the order of your own jobs.")
    ] = 0
    redact: Annotated[
        Redact | None,
        Meta(
            description="Masks what is sensitive in each row before any model sees it, in each step: `{}` for every kind, or"
            ' `{"kinds": ["email", …]}`.'
        ),
    ] = None
    budget: Annotated[
        Budget | None,
        Meta(
            description="`max_output_tokens`, `max_hours` of its run, or both: once one is used up the job ends, and what is done is kept."
        ),
    ] = None
    if_late: Annotated[
        Literal["run", "refuse"],
        Meta(
            description="`refuse`: no job is made that would be done after its window; the refusal says when it would be. `run`: it warns."
        ),
    ] = "run"


class FileSize(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Of a file that was not sent: rows that can be run, and the characters of their texts."""

    rows: Annotated[int, Meta(ge=1, le=MAX_ROWS)]
    characters: Annotated[int, Meta(ge=0, le=2**53)]


class BatchCheck(BatchPlan, forbid_unknown_fields=True, kw_only=True):
    size: Annotated[
        FileSize | None,
        Meta(description="`rows` and `characters` of the file: then the answer has a `forecast` of what the job would take."),
    ] = None


class BatchRequest(BatchPlan, forbid_unknown_fields=True, kw_only=True):
    input_file_id: Annotated[str, Meta(description="An uploaded file, of whatever purpose, or the output file of a job.")]


class HeadPlan(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What is known of a training before its file is sent."""

    name: Annotated[str, Meta(description="What `head:NAME` will call it; of a name that is there it becomes the next version.")]
    model: Annotated[str | None, Meta(description="The encoder below; otherwise the first that classifies.")] = None
    completion_window: Window = "24h"
    metadata: Metadata | None = None
    priority: Annotated[int, Meta(description="-99 to 99: the order of your own jobs.")] = 0


class HeadRequest(HeadPlan, forbid_unknown_fields=True, kw_only=True):
    training_file: Annotated[str, Meta(description="A file whose rows have a text and a label each.")]


class Planned(NamedTuple):
    """A plan that was checked, as a job takes it. ``content``: what its spec says beside the defaults; ``columns``: of its file's table,
    those that its rows are answered by. ``prompt``: its own."""

    task: Task[Any]
    endpoint: str
    model: str | None
    defaults: dict[str, object]
    metadata: dict[str, str] | None
    priority: int
    window: timedelta | datetime
    content: Mapping[str, object] = {}
    columns: Collection[str] = ()
    prompt: Prompt | None = None


def plan_batch(store: Store, actor: Actor, request: BatchPlan) -> Planned:
    """Raises Refused with the field at fault."""
    if request.endpoint is None:
        raise Refused("missing_field", "The field endpoint is missing.", param="endpoint")
    checked_budget(request.budget)
    task = TASKS.get(request.endpoint)
    if task is None:
        raise Refused("invalid_endpoint", f"The endpoint must be one of {', '.join(TASKS)}.", param="endpoint")
    defaults = request.defaults or {}
    if (code := check_defaults(task, request.endpoint, defaults)) is not None:
        raise _refused_defaults(code)
    name = defaults.get("model")
    label_set, asked = defaults.get("label_set"), defaults
    if isinstance(label_set, str):
        found = find_label_set(store, actor, label_set)
        if found is None:
            raise Refused("unknown_label_set", describe("unknown_label_set").message, param="defaults.label_set")
        _check_whole(found, "defaults.label_set")
        asked = {**defaults, "labels": found.labels, "label_set": None}
        if (code := check_defaults(task, request.endpoint, asked)) is not None:
            raise _refused_defaults(code)
    writer = find_writer(store, actor, task, request.endpoint, defaults)
    model = None
    if writer is None:
        model = _model(store, actor, task, request.endpoint, name if isinstance(name, str) else None, "defaults.model")
    if name is not None and model is not None and (code := check_pair(task, request.endpoint, asked, registry.get(model))) is not None:
        raise _refused_defaults(code)
    draws = isinstance(writer, TemplateWriter)  # by its seed, whatever the temperature
    content = checked(task, {**defaults, "temperature": 1.0} if draws else defaults, request.checks, request.tries)
    if request.redact is not None:
        content["redact"] = redact_spec(request.redact)
    prompt = None
    if request.prompt is not None:
        prompt = find_prompt(store, actor, task, request.endpoint, request.prompt)
        if writer is not None:
            message = "Rules and templates read columns, and no prompt: name another model, or no prompt."
            raise Refused("unsupported_field", message, param="prompt")
        content["prompt"] = request.prompt
    plan = _planned(request, task, request.endpoint, model, defaults)
    return plan._replace(content=content, columns=writer.columns if writer is not None else (), prompt=prompt)


def batch_job(
    store: Store, actor: Actor, request: BatchRequest, idempotency_key: str | None, *, after_steps: bool = False
) -> tuple[NewJob, JobRecord | None]:
    """The job, and the one whose output is its input. ``after_steps``: of a chain, others. Raises Refused with the field at fault."""
    plan, budget = plan_batch(store, actor, request), request.budget or Budget()
    file_id, source = _input_of(store, actor, request.input_file_id)
    check_columns(store, actor, file_id, plan.columns)
    names = names_for_job(store, actor, file_id, names_of(plan.defaults)) if plan.task.names_stored else JobNames(None, None)
    if plan.prompt is not None and request.prompt is not None:
        table = table_of_file(store, actor, file_id)
        check_names(plan.prompt, table, after_steps=after_steps or source is not None)
        names = names._replace(named=(names.named or Names()) | Names(prompts=frozenset({request.prompt})))
    new = NewJob(
        task=plan.task.name,
        endpoint=plan.endpoint,
        file_id=file_id,
        model=plan.model,
        spec={"defaults": plan.defaults, **plan.content},
        metadata=plan.metadata,
        priority=plan.priority,
        completion_window=plan.window,
        request=request_ref(actor, request, idempotency_key),
        max_output_tokens=budget.max_output_tokens,
        max_seconds=budget.max_seconds,
        refuse_late=request.if_late == "refuse",
        results_expire_seconds=None if request.output_expires_after is None else request.output_expires_after.seconds,
        names=names.named,
        other_names=names.others,
        source_id=None if source is None else source.job_id,
        reads_columns=bool(plan.columns) or plan.prompt is not None,
    )
    return new, source


def plan_head(store: Store, actor: Actor, request: HeadPlan) -> Planned:
    """Raises Refused with the field at fault."""
    check_name(request.name)
    if request.model is not None and request.model.startswith(HEAD_PREFIX):
        raise Refused("unknown_model", "A head is trained on a model of the registry, not on another head.", param="model")
    endpoint = train.TASK.endpoints[0]
    return _planned(request, train.TASK, endpoint, _model(store, actor, train.TASK, endpoint, request.model, "model"), {})


def head_job(store: Store, actor: Actor, request: HeadRequest, idempotency_key: str | None) -> NewJob:
    """Raises Refused with the field at fault."""
    plan = plan_head(store, actor, request)
    return NewJob(
        task=plan.task.name,
        endpoint=plan.endpoint,
        file_id=_input_file(request.training_file),
        model=plan.model,
        spec={"defaults": plan.defaults, "head_name": request.name},
        metadata=plan.metadata,
        priority=plan.priority,
        completion_window=plan.window,
        request=request_ref(actor, request, idempotency_key),
        head_id=uuid4(),
    )


def _planned(request: BatchPlan | HeadPlan, task: Task[Any], endpoint: str, model: str | None, defaults: dict[str, object]) -> Planned:
    metadata, priority, window = _metadata(request.metadata), _priority(request.priority), _window(request.completion_window)
    return Planned(task, endpoint, model, defaults, metadata, priority, window)


def names_of(defaults: Mapping[str, object]) -> Names:
    """The head, rules or template, and the label set that a job's defaults name."""
    model, label_set = defaults.get("model"), defaults.get("label_set")
    named = Names(label_sets=frozenset({label_set} if isinstance(label_set, str) else ()))
    if not isinstance(model, str):
        return named
    if model.startswith(HEAD_PREFIX):
        return named | Names(frozenset({model.removeprefix(HEAD_PREFIX)}))
    written = writer_name(model)
    return named if written is None else named | Names(**{written.kind: frozenset({written.address})})


def check_name(name: str) -> None:
    """Of a head, a label set or a definition: it stands in addresses. Raises Refused."""
    if not 0 < len(name) <= MAX_NAME_CHARS or not name.isprintable() or name != name.strip() or "/" in name:
        raise Refused("invalid_name", f"A name has 1 to {MAX_NAME_CHARS} printable characters and no slash.", param="name")
    if (prefix := next((one for one in (HEAD_PREFIX, *PREFIXES) if name.startswith(one)), None)) is not None:
        message = f"A name does not begin with {prefix}: that stands before it where a model is named."
        raise Refused("invalid_name", message, param="name")
    if is_address(name):
        message = "A name does not end in @ and a number: NAME@2 is the second version of NAME."
        raise Refused("invalid_name", message, param="name")
    if path_holds_key(quote(name).encode()):
        message = "A name does not look like an API key: every address of it would be refused."
        raise Refused("invalid_name", message, param="name")


def _model(store: Store, actor: Actor, task: Task[Any], endpoint: str, name: str | None, param: str) -> str | None:
    """The registry id that runs the job; None where it needs none. For ``head:<name>`` the encoder below: the name itself is content and
    stays in the sealed spec."""
    if task.models is None:
        return None
    if name is not None and name.startswith(HEAD_PREFIX):
        if task.models != "classify":
            raise Refused("model_task_mismatch", describe("model_task_mismatch").message, param=param)
        head = find_head(store, actor, name.removeprefix(HEAD_PREFIX))
        if head is None:
            raise Refused("unknown_model", "There is no such head.", param=param)
        _check_whole(head, param)
        if (code := task.head_fault(head.card["labels"])) is not None:
            raise Refused(code, describe(code).message, param=param)
        return head.base
    try:
        card = registry.default_model(task.models) if name is None else registry.get(name)
    except TextmillError as error:
        raise Refused(error.code, error.message, param=param) from None
    if name is not None and (code := task.card_fault(card, endpoint)) is not None:  # where none is named, rows may name others
        raise Refused(code, describe(code).message, param=param)
    return card.id


def _check_whole(found: HeadRecord | LabelSetRecord, param: str) -> None:
    if found.damaged:
        raise Refused(DAMAGED, describe(DAMAGED).message, status=409, param=param)


def _input_of(store: Store, actor: Actor, text: str) -> tuple[UUID, JobRecord | None]:
    """The file, and, where what is named is a job's output, that job. Raises NotFound."""
    ref = parse_file_id(text)
    if ref.which != "output":
        return _input_file(text), None
    try:
        job = get_job(store, actor, ref.id)
    except NotFound:
        raise file_not_found() from None
    if not job.has("output"):
        raise file_not_found()
    return job.file_id, job


def _input_file(text: str) -> UUID:
    ref = parse_file_id(text)
    if ref.which is not None:
        raise file_not_found()  # failures are no input, nor are results an example to train on
    return ref.id


def _metadata(metadata: dict[str, str] | None) -> dict[str, str] | None:
    if metadata is None:
        return None
    if len(metadata) > MAX_METADATA_PAIRS:
        raise Refused("invalid_metadata", f"Metadata may have {MAX_METADATA_PAIRS} pairs.", param="metadata")
    for key, value in metadata.items():
        if len(key) > MAX_METADATA_KEY_CHARS or len(value) > MAX_METADATA_VALUE_CHARS:
            message = f"A metadata key may have {MAX_METADATA_KEY_CHARS} characters and a value {MAX_METADATA_VALUE_CHARS}."
            raise Refused("invalid_metadata", message, param="metadata")
    return metadata


def _priority(priority: int | str) -> int:
    """As it is stored."""
    number = PRIORITIES.get(priority) if isinstance(priority, str) else priority if abs(priority) <= MAX_PRIORITY else None
    if number is None:
        message = f'The priority is "interactive", "bulk", or a number from {-MAX_PRIORITY} to {MAX_PRIORITY}.'
        raise Refused("invalid_field", message, param="priority")
    return number


def _window(text: str) -> timedelta | datetime:
    """A length of time, or the time at which it ends: of a date, its end (UTC)."""
    found = _WINDOW.fullmatch(text)
    if found:
        length = timedelta(seconds=int(found.group(1)) * _UNIT_SECONDS[found.group(2)])
        end = None
    else:
        end = _date(text)
        length = end - datetime.now(UTC)
    least, most = WINDOW_SECONDS
    if not least <= length.total_seconds() <= most:
        raise Refused("invalid_completion_window", WINDOW_MESSAGE, param="completion_window")
    return length if end is None else end


def _date(text: str) -> datetime:
    try:
        date = datetime.fromisoformat(text)
        if len(text) == len("2026-01-31"):
            return date.replace(tzinfo=UTC) + timedelta(days=1)
    except (ValueError, OverflowError):  # the day after the last one that there is
        raise Refused("invalid_completion_window", WINDOW_MESSAGE, param="completion_window") from None
    if date.tzinfo is None:
        message = "A completion window with a time of day names its zone: Z, or +02:00."
        raise Refused("invalid_completion_window", message, param="completion_window")
    return date


def _refused_defaults(stored_code: str) -> Refused:
    code, field, _ = parts_of(stored_code)
    param = f"defaults.{field}" if field else "defaults.labels" if code in _LABEL_CODES else "defaults"
    return Refused(code, describe(stored_code).message, param=param)


def request_ref(actor: Actor, request: BatchRequest | HeadRequest, idempotency_key: str | None) -> RequestRef:
    """Two requests are twins by the same key of a caller's, or by the same body from the same API key while its names mean the same."""
    body = hashlib.sha256(b"body" + msgspec.json.encode(request, order="sorted")).digest()
    name = body if idempotency_key is None else b"key" + idempotency_key.encode()
    caller = type(request).__name__.encode() + (actor.key_id or actor.principal_id).bytes
    return RequestRef(hashlib.sha256(caller + name).digest(), body, keyed=idempotency_key is not None)
