"""What a job may spend, as a request asks for it."""

import math
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from api.errors import Refused

MOST_TOKENS: Final = 2**53  # what every client's numbers hold exactly
MOST_HOURS: Final = 30 * 24


class Budget(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What ends a job in order, with what is done kept; rows that did not run are told `batch_over_budget`."""

    max_output_tokens: Annotated[int, Meta(ge=1, le=MOST_TOKENS)] | None = None
    max_hours: Annotated[float, Meta(gt=0, le=MOST_HOURS)] | None = None

    @property
    def max_seconds(self) -> int | None:
        return None if self.max_hours is None else math.ceil(self.max_hours * 3_600)


def checked_budget(budget: Budget | None) -> Budget:
    """Raises Refused where it limits nothing."""
    if budget is not None and budget.max_output_tokens is None and budget.max_hours is None:
        raise Refused("invalid_field", "A budget has max_output_tokens, max_hours, or both.", param="budget")
    return budget or Budget()
