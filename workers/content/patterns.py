"""What the counted repeats of a regular expression come to, in RE2's syntax: each is one more state that it may be in at a character."""

import re
from typing import Final

MAX_REPEATS: Final = 1_000
_COUNTED: Final = re.compile(r"\{(?:[0-9]*,)?([0-9]+)\}")


def repeats_of(pattern: str) -> int:
    return sum(int(most[-6:]) for most in _COUNTED.findall(pattern))
