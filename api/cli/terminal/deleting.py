"""Deleting what a name names, for the commands that ask nothing before."""

from api.cli.terminal.exits import ExitCode


def delete(path: str, name: str, said: str, *, as_json: bool) -> int:
    """``path`` is the API's, ``said`` what was done, in a word or two before the name."""
    from api.cli.terminal.connection import connect
    from api.cli.terminal.terminal import answer_json, say, shown

    with connect() as client:
        deleted = client.delete(path, name)
    if as_json:
        answer_json(deleted)
    else:
        say(f"{said} {shown(name)}.")
    return ExitCode.OK
