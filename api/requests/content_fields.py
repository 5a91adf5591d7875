"""The fields of a batch that are the job's and no row's: checked, and as the job's spec holds them."""

from collections.abc import Mapping, Sequence
from typing import Any

from api.errors import Refused
from workers.content.checking import Checker, NotInstalled
from workers.content.checks import InvalidChecks, read_checks
from workers.tasks.generate import TASK as GENERATE
from workers.tasks.task import Task

EXTRA = "pip install 'textmill[checks]'"


def checked(
    task: Task[Any], defaults: Mapping[str, object], checks: Sequence[Mapping[str, object]] | None, tries: int | None
) -> dict[str, object]:
    """``checks`` and ``tries``. Raises Refused."""
    if not checks and tries in (None, 1):
        return {}
    for name, value in (("checks", checks), ("tries", tries)):
        if value and task is not GENERATE:
            raise Refused("unsupported_field", f"{name} are for jobs that write texts.", param=name)
    if not checks:
        raise Refused("invalid_field", "Without checks a row is tried once: give checks, or leave tries out.", param="tries")
    _try_out(checks)
    temperature = defaults.get("temperature")
    if tries not in (None, 1) and not (isinstance(temperature, int | float) and temperature > 0):
        message = "A second try needs a temperature: without one a row says the same again. Give defaults.temperature above 0."
        raise Refused("invalid_field", message, param="tries")
    return {"checks": list(checks), "tries": tries or 1}


def _try_out(checks: Sequence[Mapping[str, object]]) -> None:
    try:
        Checker(read_checks(checks))
    except InvalidChecks as fault:
        raise Refused("invalid_check", f"In {fault.param}: {fault.sentence}", param=fault.param) from None
    except NotInstalled as missing:
        message = f"In checks[{missing.place}]: this check is not installed here. {EXTRA}, here and where the workers run."
        raise Refused("check_unavailable", message, param=f"checks[{missing.place}]") from None
