"""`--check` and `--check-file`: the checks of a job as they are written in a terminal."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from api.cli.terminal.exits import CommandError
from api.cli.terminal.terminal import shown
from api.cli.work.yaml_files import read_yaml

Check = dict[str, object]

FORMS: Final = (
    "words<=80, words>=10, characters<=500, language=de,fr, required=PHRASE, forbidden=PHRASE, regex=PATTERN, regex!=PATTERN,"
    " json_schema=FILE, unlike_prompt<0.8, unlike_others<0.8"
)
_WRITTEN: Final = re.compile(r"(\w+)\s*(<=|>=|!=|=|<)(.*)", re.DOTALL)


def checks_of(written: Sequence[str], file: str | None) -> list[Check]:
    """Those of the file, and then the options'. Raises CommandError."""
    return [*([] if file is None else _listed(file)), *map(_read, written)]


def _read(written: str) -> Check:
    found = _WRITTEN.fullmatch(written.strip())
    read = None if found is None else _READERS.get((found[1], found[2]))
    if found is None or read is None:
        raise CommandError(f"--check is one of {FORMS}; not {shown(written)}.")
    value = found[3].strip()
    if not value:
        raise CommandError(f"--check {shown(written)} says nothing behind {found[2]}.")
    return read(value)


def _length(unit: str, bound: str) -> Callable[[str], Check]:
    return lambda value: {"check": "length", "unit": unit, bound: _number(value, int)}


def _similarity(kind: str) -> Callable[[str], Check]:
    return lambda value: {"check": kind, "similarity": _number(value, float)}


def _number(value: str, kind: type[int] | type[float]) -> float:
    try:
        return kind(value)
    except ValueError:
        raise CommandError(f"--check takes a number there, not {shown(value)}.") from None


_READERS: Final[dict[tuple[str, str], Callable[[str], Check]]] = {
    **{(unit, sign): _length(unit, bound) for unit in ("words", "characters") for sign, bound in (("<=", "max"), (">=", "min"))},
    ("language", "="): lambda value: {"check": "language", "any_of": [one.strip() for one in value.split(",")]},
    ("required", "="): lambda value: {"check": "required", "words": [value]},
    ("forbidden", "="): lambda value: {"check": "forbidden", "words": [value]},
    ("regex", "="): lambda value: {"check": "regex", "pattern": value},
    ("regex", "!="): lambda value: {"check": "regex", "pattern": value, "found": False},
    ("json_schema", "="): lambda value: {"check": "json_schema", "schema": _json(value)},
    **{(kind, "<"): _similarity(kind) for kind in ("unlike_prompt", "unlike_others")},
}


def _listed(file: str) -> list[Check]:
    listed = read_yaml(Path(file))
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise CommandError(f'{shown(file)} is no list of checks, such as [{{"check": "length", "max": 80}}].')
    return listed


def _json(file: str) -> object:
    try:
        return json.loads(Path(file).read_bytes())
    except OSError as error:
        raise CommandError(f"{shown(file)} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError):
        raise CommandError(f"{shown(file)} is not JSON.") from None
