"""What a million tokens cost, as the operator says: for forecasts alone, nothing is billed. Pure."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

ANY: Final = "*"
TOKENS: Final = 1_000_000
_ENTRY: Final = re.compile(r"([^=,\s]{1,200})=([0-9.]{1,20})/([0-9.]{1,20})")


@dataclass(frozen=True, slots=True)
class Price:
    """Of a million tokens that are read, and that are written."""

    read: float
    written: float

    def of(self, input_tokens: int, output_tokens: int) -> float:
        return (input_tokens * self.read + output_tokens * self.written) / TOKENS


def read_prices(text: str) -> Mapping[str, Price]:
    """By model, of ``MODEL=IN/OUT,MODEL=IN/OUT``; ``*`` is any other. Raises ValueError, which quotes nothing."""
    prices: dict[str, Price] = {}
    for number, entry in enumerate(filter(None, map(str.strip, text.split(","))), 1):
        found = _ENTRY.fullmatch(entry)
        try:
            sums = [] if found is None else [float(found.group(at)) for at in (2, 3)]
        except ValueError:
            sums = []
        if found is None or not sums or not all(map(math.isfinite, sums)):
            raise ValueError(f"entry {number} is no MODEL=IN/OUT, such as gemma3-270m=0.05/0.20")
        if found.group(1) in prices:
            raise ValueError(f"entry {number} names a model that has a price already")
        prices[found.group(1)] = Price(*sums)
    return prices


def price_of(prices: Mapping[str, Price], model: str | None) -> Price | None:
    return prices.get(model or ANY, prices.get(ANY))
