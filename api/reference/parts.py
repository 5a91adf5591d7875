"""What is generated, by name, and where a page wants it: between ``<!-- generated NAME -->`` and ``<!-- end -->``."""

import re
from collections.abc import Callable
from typing import Final

from api.reference import bodies, checks, commands, failures, metrics, routes, settings, uploads

PARTS: Final[dict[str, Callable[[], str]]] = {
    "commands": commands.part,
    "settings": settings.part,
    "routes": routes.part,
    "request bodies": bodies.requests,
    "task bodies": bodies.tasks,
    "checks": checks.part,
    "form": uploads.part,
    "failures": failures.part,
    "metrics": metrics.part,
}
_PLACE: Final = re.compile(r"(<!-- generated ([\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def current(text: str) -> str:
    """The page with every generated part as it is now. KeyError where it names one that there is not."""
    return _PLACE.sub(lambda found: f"{found.group(1)}{PARTS[found.group(2)]().strip()}\n{found.group(3)}", text)


def wanted(text: str) -> list[str]:
    """The names of a page's generated parts."""
    return [found.group(2) for found in _PLACE.finditer(text)]
