"""Deleting what a name names, and asking before."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from api.cli.terminal.exits import CommandError, ExitCode

if TYPE_CHECKING:
    from api.client import Client

    Find = Callable[[Client, str], str]


def delete(path: str, name: str, said: str, *, as_json: bool, find: "Find | None" = None, ask: str | None = None) -> int:
    """``path`` is the API's, ``said`` what was done, in a word or two before the name. ``find``: the id that ``name`` stands for;
    ``ask``: the question before, up to the name."""
    from api.cli.terminal.connection import connect
    from api.cli.terminal.terminal import answer_json, say, shown

    with connect() as client:
        name = name if find is None else find(client, name)
        if ask is not None:
            confirm(f"{ask} {shown(name)} for ever?")
        deleted = client.delete(path, name)
    if as_json:
        answer_json(deleted)
    else:
        say(f"{said} {shown(name)}.")
        if deleted.get("kept"):
            say("Jobs that began with it go on with it; it is erased once they have ended.")
    return ExitCode.OK


def confirm(question: str, done: str = "deleted") -> None:
    """Raises CommandError for a no, which says what was not ``done``, and where nobody is there to answer."""
    try:
        if typer.confirm(question, err=True):
            return
    except typer.Abort:
        if sys.stdin.isatty():  # Ctrl-C
            raise
        print(file=sys.stderr)  # the question's line
        raise CommandError(f"Nothing was {done}: nobody answered. --yes does it without asking.") from None
    raise CommandError(f"Nothing was {done}.")
