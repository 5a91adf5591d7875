"""The fields of a row's body that several tasks know."""

from typing import Annotated

import msgspec
from msgspec import Meta

from workers.engines.contract.long_texts import OnLong, Pool, Stride

Name = Annotated[str, Meta(min_length=1, max_length=256)]


class Body(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What every task knows. ``label`` is what a row is known to be: only training reads it, but one file may serve several jobs."""

    model: Name | None = None
    input: str | None = None
    label: str | None = None


class LongBody(Body, forbid_unknown_fields=True, kw_only=True):
    """Of a text that may be longer than the model reads."""

    on_long: OnLong | None = None
    pool: Pool | None = None
    stride: Stride | None = None
