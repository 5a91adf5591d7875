"""How the program ends: exit codes, and one sentence for whoever typed the command."""

import sys
from enum import IntEnum

from db.errors import TextmillError


class ExitCode(IntEnum):
    """The same for every command; the epilog of --help lists them."""

    OK = 0
    ROWS_FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4
    JOB_ENDED_BADLY = 5
    INTERRUPTED = 130


EPILOG = (
    "Exit codes: 0 done · 1 done, but some rows failed or something was not found · 2 the command is wrong · 3 no server, or it could not "
    "start · 4 the key was refused · 5 the job failed, expired or was cancelled · 130 interrupted. "
    "TEXTMILL_API_URL and TEXTMILL_API_KEY name another server; otherwise the stack that `textmill up` started is used."
)


class CommandError(TextmillError):
    """The command cannot go on. The message says what is wrong and what to do."""

    def __init__(self, message: str, exit_code: ExitCode = ExitCode.USAGE, *, code: str = "usage") -> None:
        super().__init__(message, code=code, status=400)
        self.exit_code = exit_code


def exit_code_of(error: TextmillError) -> int:
    """What the error itself says (the CLI's own and the local stack's do), else by its HTTP status."""
    if isinstance(exit_code := getattr(error, "exit_code", None), int):
        return exit_code
    if error.code == "unreachable" or error.status >= 500:
        return ExitCode.UNREACHABLE
    if error.status in (401, 403):
        return ExitCode.REFUSED
    if error.status in (400, 413, 415, 422):
        return ExitCode.USAGE
    return ExitCode.ROWS_FAILED


def report(error: TextmillError, *, as_json: bool, message: str | None = None) -> int:
    """Says it on stderr, in the words of ``message`` where they are others. With --json as one JSON line, so that a script need not parse a
    sentence."""
    from api.cli.terminal.terminal import say, shown

    exit_code = exit_code_of(error)
    message = error.message if message is None else message
    request_id = getattr(error, "request_id", None)
    if as_json:
        import msgspec

        fault = {"code": error.code, "message": message, "exit_code": int(exit_code)}
        if request_id:
            fault["request_id"] = request_id
        sys.stderr.write(msgspec.json.encode({"error": fault}).decode() + "\n")
        return exit_code
    say(f"textmill: {shown(message)}")
    if request_id and error.status >= 500:
        say(f"The server's log has more under request {shown(request_id)}.")
    return exit_code
