"""What became of a row."""

import msgspec


class Outcome(msgspec.Struct, frozen=True):
    """``row`` is the row's number among the rows of the input, ``line`` the line (or record) of it where the row begins; both from 1. A row
    has ``values``, by column, or a failure's ``code`` and ``message``; of a chain both, where steps before that had answers. ``body``,
    ``columns``: the row as it is kept, where it was asked for and something of it is left. ``size``: bytes of the answer as it came."""

    row: int
    line: int
    id: str | None
    values: dict[str, object] = {}
    code: str | None = None
    message: str | None = None
    body: bytes | None = None
    columns: bytes | None = None
    size: int = 0

    @property
    def truncated(self) -> bool:
        """Only the beginning of its text was read."""
        return bool(self.values.get("truncated"))

    @property
    def all_unknown(self) -> bool:
        """The model knew not one token of its text."""
        return bool(self.values.get("all_unknown"))

    @property
    def cut_short(self) -> bool:
        """The model was not at the end of its answer when it had written as many tokens as it might."""
        return self.values.get("finish_reason") == "length"
