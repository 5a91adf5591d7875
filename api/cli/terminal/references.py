"""Jobs and files as a person names them: all of an id, its first digits, or `last`. And ids as short as a list may show them."""

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

from api.cli.terminal.exits import CommandError, ExitCode
from api.cli.terminal.terminal import shown
from db.id_ranges import LEAST_DIGITS, SHORT_DIGITS

if TYPE_CHECKING:
    from api.client import Client

LAST: Final = "last"
MOST_TOLD: Final = 5
_WHOLE: Final = re.compile(r"(batch_|file-[oe]?|key_)([0-9a-f]{32})")
_BARE: Final = re.compile(r"[0-9a-f]{32}")  # of who acted
_DASHED: Final = re.compile(r"((?:batch_|file-[oe]?|key_)?)([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
_KINDS: Final = {"batch_": "job", "file-": "file", "key_": "key"}
_PREFIX: Final = re.compile(r"(?:batch_|file-|key_)?[oe]?[0-9a-f]{1,32}")


def find_job(client: "Client", named: str) -> str:
    """The job's whole id. Raises CommandError where there is none of this name, or more than one."""
    return _find(named, "job", _newest_job(client), lambda prefix: _listed(client, "/v1/batches", prefix))


def find_file(client: "Client", named: str) -> str:
    """The same for a file; `last` is the one uploaded last."""
    return _find(named, "file", _newest_file(client), lambda prefix: _listed(client, "/v1/files", prefix))


def find_key(ids: Sequence[str], named: str) -> str:
    """The same for an API key, of these; none is `last`: what ends for good is named."""

    def beginning_so(prefix: str) -> list[str]:
        return [each for each in ids if each.removeprefix("key_").startswith(prefix.removeprefix("key_"))]

    return _find(named, "key", None, beginning_so)


def find_object(client: "Client", named: str) -> str:
    """What the record is asked about, which knows ids of all kinds by their beginnings; `last` is a job."""
    return find_job(client, named) if named == LAST else _typed(named)


def _newest_job(client: "Client") -> Callable[[], str | None]:
    return lambda: next((batch.id for batch in client.batches()), None)


def _newest_file(client: "Client") -> Callable[[], str | None]:
    return lambda: next((file.id for file in client.files() if file.purpose != "batch_output"), None)


def _listed(client: "Client", path: str, prefix: str) -> list[str]:
    data = client.get(path, {"prefix": prefix, "limit": MOST_TOLD + 1}).get("data")
    return [str(each["id"]) for each in data if isinstance(each, dict)] if isinstance(data, list) else []


def _find(named: str, kind: str, newest: Callable[[], str | None] | None, beginning_so: Callable[[str], Sequence[str]]) -> str:
    """``newest``: None where no name stands for it."""
    if named == LAST and newest is not None:
        if (last := newest()) is None:
            raise _missing(f"There is no {kind} yet.")
        return last
    given = _typed(named)
    other = next((each for each in _KINDS.items() if each[1] != kind and given.startswith(each[0])), None)
    if other is not None:
        raise CommandError(
            f"“{shown(given)}” is the id of a {other[1]}, and a {kind} is asked for; `textmill {_list_of(kind)}` shows them."
        )
    if _WHOLE.fullmatch(given):
        return given  # whether it is there is told by what is asked of it
    if not _PREFIX.fullmatch(given):
        raise CommandError(
            f"A {kind} is named by its id or by the first digits of it{'' if newest is None else f', or as `{LAST}`'}; "
            f"`textmill {_list_of(kind)}` shows them."
        )
    if len(given.rpartition("_")[2].rpartition("-")[2].lstrip("o")) < LEAST_DIGITS:
        raise CommandError(f"“{shown(given)}” is too short: give at least {LEAST_DIGITS} digits of the {kind}'s id.")
    found = beginning_so(given)
    if not found:
        raise _missing(f"There is no {kind} whose id begins with {shown(given)}; `textmill {_list_of(kind)}` shows what there is.")
    if len(found) > 1:
        more = ", …" if len(found) > MOST_TOLD else ""
        listed = ", ".join(found[:MOST_TOLD])
        raise CommandError(
            f"More than one {kind} begins with {shown(given)}: {listed}{more}. Give more of its digits.", code="ambiguous_id"
        )
    return found[0]


def _typed(named: str) -> str:
    """As an id is written, whatever case or dashes it was copied with, and with the dots of one that was cut."""
    given = named.strip().lower().rstrip("…")
    dashed = _DASHED.fullmatch(given)
    return given if dashed is None else dashed[1] + dashed[2].replace("-", "")


def _missing(message: str) -> CommandError:
    return CommandError(message, ExitCode.ROWS_FAILED, code="not_found")


def _list_of(kind: str) -> str:
    return f"{kind}s list" if kind in ("file", "key") else "jobs list"


def short_ids(ids: Iterable[str]) -> dict[str, str]:
    """Of each its first digits, as many as tell them apart; what is no terminal gets them whole."""
    return first_digits(ids) if sys.stdout.isatty() else {each: each for each in ids}


def first_digits(ids: Iterable[str]) -> dict[str, str]:
    whole = list(ids)
    digits = SHORT_DIGITS
    while len({_short(each, digits) for each in whole}) < len(set(whole)):
        digits += 1
    return {each: _short(each, digits) for each in whole}


def _short(id: str, digits: int) -> str:
    """A file and a key keep what their id begins with: it says what they are."""
    found = _WHOLE.fullmatch(id)
    if found is None:
        return id[:digits] if _BARE.fullmatch(id) else id
    kind, hexadecimal = found.groups()
    return ("" if kind == "batch_" else kind) + hexadecimal[:digits]
