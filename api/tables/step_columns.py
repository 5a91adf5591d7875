"""What the columns of a chain's steps are called in one table: as in a table of their own, with the step's name before them where several
steps have one."""

from collections import Counter
from collections.abc import Mapping, Sequence


def step_columns(steps: Sequence[tuple[str, Mapping[str, str]]]) -> list[dict[str, str]]:
    """By step, in order: each column's own name, and what it is called. ``steps``: names, and columns with their kinds."""
    times = Counter(name for _, columns in steps for name in columns)
    return [{name: f"{step}_{name}" if times[name] > 1 else name for name in columns} for step, columns in steps]
