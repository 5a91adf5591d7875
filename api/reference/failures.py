"""Why a row has no answer: every code, from the table that the store keeps them by."""

from api.reference.tables import table
from db.failures import FAILURES


def part() -> str:
    return table(("code", "status", "what it says"), [(f"`{each.code}`", str(each.status), each.message) for each in FAILURES.values()])
