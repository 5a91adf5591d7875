"""Deleting what a name names, for the commands that ask nothing before."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from api.cli.terminal.exits import ExitCode

if TYPE_CHECKING:
    from api.client import Client

    Find = Callable[[Client, str], str]


def delete(path: str, name: str, said: str, *, as_json: bool, find: "Find | None" = None) -> int:
    """``path`` is the API's, ``said`` what was done, in a word or two before the name. ``find``: the id that ``name`` stands for."""
    from api.cli.terminal.connection import connect
    from api.cli.terminal.terminal import answer_json, say, shown

    with connect() as client:
        name = name if find is None else find(client, name)
        deleted = client.delete(path, name)
    if as_json:
        answer_json(deleted)
    else:
        say(f"{said} {shown(name)}.")
        if deleted.get("kept"):
            say("Jobs that began with it go on with it; it is erased once they have ended.")
    return ExitCode.OK
