"""Regular expressions of a tenant's, in RE2: its time grows with the text, and each counted repeat is one more state that it may be in at a
character.
"""

import re
from collections.abc import Callable
from typing import Any, Final

MAX_REPEATS: Final = 1_000
_COUNTED: Final = re.compile(r"\{(?:[0-9]*,)?([0-9]+)\}")


class NoPattern(Exception):
    """RE2 does not take it. Holds nothing of it."""


def repeats_of(pattern: str) -> int:
    return sum(int(most[-6:]) for most in _COUNTED.findall(pattern))


def search_of(pattern: str, *, ignore_case: bool = False, max_bytes: int | None = None) -> Callable[[str], Any]:
    """Looks for it anywhere in a text: None where it is not found. ``max_bytes``: that RE2 may take for it, otherwise its own bound. Raises
    NoPattern."""
    import re2  # most definitions and jobs have none

    options = re2.Options()
    options.log_errors = False  # it would write the pattern to this process's log
    options.never_capture = True
    options.case_sensitive = not ignore_case
    if max_bytes is not None:
        options.max_mem = max_bytes
    try:
        search: Callable[[str], Any] = re2.compile(pattern, options).search
    except (re2.error, UnicodeEncodeError):
        raise NoPattern from None
    return search
