"""On which terms a job is made: when it must be done, and what it may spend. And what the server promises of its end."""

import time
from typing import TYPE_CHECKING

from api.cli.terminal.exits import CommandError
from api.cli.terminal.terminal import age, say, shown, when

if TYPE_CHECKING:
    from api.wire import Batch


def terms(if_late: str | None, max_hours: float | None, max_output_tokens: int | None = None) -> dict[str, object]:
    """What the options put into a job beside its defaults. Raises CommandError."""
    if if_late not in (None, "run", "refuse"):
        raise CommandError("--if-late is run or refuse.")
    if max_hours is not None and max_hours <= 0:
        raise CommandError("--max-hours is more than 0.")
    spent = {"max_output_tokens": max_output_tokens, "max_hours": max_hours}
    budget = {name: value for name, value in spent.items() if value is not None}
    return {**({} if if_late is None else {"if_late": if_late}), **({"budget": budget} if budget else {})}


def say_promise(batch: "Batch") -> None:
    """When the job will be done, or why that is not known; and where that is too late."""
    told = batch.textmill
    if told.expected_at is not None:
        say(f"Expected to be done at {when(told.expected_at)} (in {age(time.time(), told.expected_at)}).")
        say(*(f"Note: {shown(warning.message)}" for warning in told.warnings if warning.code == "late"))
    elif told.unforeseen is not None and not batch.ended:
        say(f"When it will be done cannot be told: {shown(told.unforeseen.message).rstrip('.')}.")
