"""What a recogniser finds."""

from typing import Final, Literal, NamedTuple, get_args

Kind = Literal["url", "key", "iban", "card", "national_id", "email", "ip", "phone"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)  # the most specific first: of two that are as long the first counts


class Span(NamedTuple):
    """``text[start:end]`` is of ``kind``."""

    kind: Kind
    start: int
    end: int
