"""A request for a batch of one step or of several, checked and turned into the jobs of a chain."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import msgspec

from api.errors import Refused
from api.requests.batch_requests import BatchPlan, BatchRequest, Planned, batch_job, plan_batch, request_ref
from api.requests.step_plans import RowsPlan, StepPlan
from db.actors import Actor
from db.connect import Store
from db.jobs.chains import MAX_STEPS
from db.jobs.creating import INPUT_STEP, NewJob
from workers.tasks import TASKS
from workers.tasks.steps import When
from workers.tasks.task import Task

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
Before = dict[str, Task[Any]]  # steps before one, by name, in order


def plan_request(store: Store, actor: Actor, request: BatchPlan) -> list[Planned]:
    """What each step runs. Raises Refused with the field at fault, as the making of the batch would."""
    plans: list[Planned] = []
    before: Before = {}
    for number, step in enumerate(_steps(request), start=1):
        with _told_of(request, number):
            plans.append(plan_batch(store, actor, _alone(request, step)))
            if before:  # else it asks about an input that is not known yet
                _conditions(step, before)
            if isinstance(step, StepPlan):
                before[step.name] = plans[-1].task
    return plans


def new_job(store: Store, actor: Actor, request: BatchRequest, idempotency_key: str | None) -> NewJob:
    """Raises Refused with the field at fault."""
    jobs: list[NewJob] = []
    before: Before = {}
    for number, step in enumerate(_steps(request), start=1):
        with _told_of(request, number):
            job, source = batch_job(store, actor, _alone(request, step), idempotency_key, after_steps=bool(before))
            if source is not None:
                before.setdefault(INPUT_STEP, TASKS[source.task])
            conditions = _conditions(step, before)
            spec = {**job.spec, "when": conditions} if conditions else dict(job.spec)
            if jobs and "redact" in spec:
                spec["redact"] = jobs[0].spec["redact"]  # a value has one mask in all of a chain
            jobs.append(replace(job, spec=spec, step=step.name if isinstance(step, StepPlan) else None))
            if isinstance(step, StepPlan):
                before[step.name] = TASKS[job.task]
    return replace(jobs[-1], before=tuple(jobs[:-1]), request=request_ref(actor, request, idempotency_key))


def _steps(request: BatchPlan) -> list[Any]:
    """Its steps; of a batch that is no chain, itself."""
    steps = request.steps
    if steps is None:
        return [request]
    if not 2 <= len(steps) <= MAX_STEPS:
        raise Refused("invalid_steps", f"A chain has 2 to {MAX_STEPS} steps.", param="steps")
    names = [step.name for step in steps]
    for at, name in enumerate(names):
        if _NAME.fullmatch(name) is None or name == INPUT_STEP:
            message = f"A step's name is a letter or _, then at most 63 letters, digits or _, and not `{INPUT_STEP}`."
            raise Refused("invalid_steps", message, param=f"steps[{at}].name")
        if name in names[:at]:
            raise Refused("invalid_steps", f"Steps {names.index(name) + 1} and {at + 1} have one name.", param=f"steps[{at}].name")
    if request.endpoint is not None and request.endpoint != steps[-1].endpoint:
        raise Refused("invalid_endpoint", "The endpoint of a chain is that of its last step: leave it out.", param="endpoint")
    said = next((name for name in RowsPlan.__struct_fields__ if name != "endpoint" and getattr(request, name) is not None), None)
    if said is not None:
        raise Refused("invalid_field", f"In a chain `{said}` is said of each step, not of the whole.", param=said)
    return list(steps)


def _alone(request: Any, step: RowsPlan) -> Any:
    """The request as if the step were all of it."""
    return msgspec.structs.replace(request, steps=None, **{name: getattr(step, name) for name in RowsPlan.__struct_fields__})


def _conditions(step: RowsPlan, before: Mapping[str, Task[Any]]) -> list[dict[str, object]]:
    """As the spec has them: each with the name of its step. Raises Refused where there is no such step before this one, or it never says
    what is asked."""
    asked = [] if step.when is None else step.when if isinstance(step.when, list) else [step.when]
    return [_condition(when, before) for when in asked]


def _condition(when: When, before: Mapping[str, Task[Any]]) -> dict[str, object]:
    names = list(before)
    name = when.step if when.step is not None else names[-1] if names else None
    if name is None or name not in before:
        known = f"; there are {', '.join(names)}" if names else ""
        raise Refused("invalid_field", f"`when` asks about a step that does not stand before this one{known}.", param="when")
    if (field := when.fault(before[name].columns)) is not None:
        message = "`when` asks for nothing." if field == "when" else f"`when` asks for a `{field}`, which its step does not give."
        raise Refused("invalid_field", message, param="when")
    told: dict[str, object] = msgspec.to_builtins(msgspec.structs.replace(when, step=name))
    return told


@contextmanager
def _told_of(request: BatchPlan, number: int) -> Iterator[None]:
    """A refusal says which step it is about."""
    try:
        yield
    except Refused as refused:
        if request.steps is None:
            raise
        param = f"steps[{number - 1}]{'' if refused.param is None else f'.{refused.param}'}"
        raise Refused(refused.code, f"Step {number}: {refused.message}", status=refused.status, param=param) from None
