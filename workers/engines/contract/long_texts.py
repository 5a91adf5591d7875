"""What becomes of a text that is longer than the model reads: cut, refused, or read in windows whose answers are pooled. Light."""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

MAX_STRIDE: Final = 8_192
DEFAULT_STRIDE: Final = 32

OnLong = Literal["truncate", "refuse", "chunk"]
Pool = Literal["mean", "max"]
Stride = Annotated[int, Meta(ge=0, le=MAX_STRIDE)]


class Long(msgspec.Struct, frozen=True):
    """``pool`` and ``stride`` are read for "chunk": how the windows' answers become one, and how many tokens a window shares with the one
    before it (at most half a window)."""

    on_long: OnLong = "truncate"
    pool: Pool = "mean"
    stride: int = DEFAULT_STRIDE


TRUNCATE: Final = Long()
