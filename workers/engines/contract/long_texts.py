"""What becomes of a text that is longer than the model reads: cut, refused, or read in windows whose answers are pooled. Light."""

from typing import Annotated, Final, Literal, Protocol

import msgspec
from msgspec import Meta

MAX_STRIDE: Final = 8_192
DEFAULT_STRIDE: Final = 32

OnLong = Literal["truncate", "refuse", "chunk"]
Pool = Literal["mean", "max"]
Stride = Annotated[int, Meta(ge=0, le=MAX_STRIDE)]
DEFAULT_POOL: Final[Pool] = "mean"


class LongText(Protocol):
    """``on_long``: cut where None. ``pool`` and ``stride`` are read for "chunk": how the windows' answers become one (DEFAULT_POOL), and
    how many tokens a window shares with the one before it (DEFAULT_STRIDE; at most half a window)."""

    @property
    def on_long(self) -> OnLong | None: ...
    @property
    def pool(self) -> Pool | None: ...
    @property
    def stride(self) -> int | None: ...


class Long(msgspec.Struct, frozen=True):
    """The same, by itself."""

    on_long: OnLong | None = None
    pool: Pool | None = None
    stride: int | None = None
