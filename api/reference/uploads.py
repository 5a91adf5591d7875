"""The fields of the form that brings a file."""

from api.reference.tables import table
from api.streams.uploads import FORM_FIELDS


def part() -> str:
    return table(("form field", "meaning"), [(f"`{name}`", meaning) for name, meaning in FORM_FIELDS.items()])
