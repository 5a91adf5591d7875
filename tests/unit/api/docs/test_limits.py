"""The bounds that the page of limits tells are those that hold by default."""

import re

import pytest

from api.docs.pages import find
from api.formats.limits import MAX_ID_CHARS
from api.requests.batch_requests import MAX_METADATA_PAIRS
from api.settings import ApiSettings
from db.lifecycle import MAX_INTERACTIVE_ROWS
from workers.settings import WorkerSettings

UNITS = {"MiB": 1 << 20, "GiB": 1 << 30, "": 1}
SETTINGS = {
    f"TEXTMILL_{name.upper()}": field.default for kind in (ApiSettings, WorkerSettings) for name, field in kind.model_fields.items()
}


def rows() -> dict[str, tuple[int, str]]:
    """By what is bounded: the first number of the bound, and the variable that sets it."""
    page = find("limits")
    assert page is not None
    found = re.findall(r"^\| ([^|`]+) \| ([\d,]+) ?(MiB|GiB|)[^|]*\| (?:`(\w+)`)? ?\|$", page.text, re.MULTILINE)
    return {name: (int(number.replace(",", "")) * UNITS[unit], variable) for name, number, unit, variable in found}


def test_a_bound_that_a_variable_sets_is_its_default() -> None:
    told = {variable: bound for bound, variable in rows().values() if variable}
    assert len(told) >= 6
    assert told == {variable: SETTINGS[variable] for variable in told}


@pytest.mark.parametrize(
    ("what", "bound"),
    [("custom id", MAX_ID_CHARS), ("rows of an interactive job", MAX_INTERACTIVE_ROWS), ("metadata", MAX_METADATA_PAIRS)],
)
def test_a_bound_that_stands_fast_is_the_program_s(what: str, bound: int) -> None:
    assert rows()[what][0] == bound
