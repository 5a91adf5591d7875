"""The command line, `textmill`: one module a command group, each a client of the HTTP API or, in `stack`, of this machine.

What enters: arguments. What leaves: results on stdout or in files, everything said to a person on stderr, an exit code of
:mod:`api.cli.terminal.exits`. Modules import what is heavy inside their commands, so that --help answers at once.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn


def main() -> NoReturn:
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """The exit code. Never raises but for a bug."""
    import typer

    from api.cli.terminal.exits import CommandError, ExitCode, report
    from api.cli.terminal.misspelt import name_misspelt
    from api.cli.terminal.option_words import in_options
    from api.cli.terminal.terminal import say, shown
    from api.cli.tree import command, options_of, what_is_wrong
    from db.errors import TextmillError

    as_json = "--json" in arguments
    if sys.stdout is None:  # closed by whoever started this, as some services have it
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - for the life of the process
    if sys.stderr is None:
        sys.stderr = sys.stdout
    name_misspelt(arguments)
    try:
        result = command()(args=list(arguments), prog_name="textmill", standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        if not (told := what_is_wrong(error)):  # the help of a group was printed instead
            return ExitCode.USAGE
        return report(CommandError(told), as_json=as_json)
    except TextmillError as error:
        words, options = options_of(arguments)
        return report(error, as_json=as_json, message=in_options(error.message, options, words))
    except (KeyboardInterrupt, typer.Abort):
        say("Interrupted.")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has what it wanted (`| head`). Python must not complain about it again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except UnicodeEncodeError:
        say("textmill: an argument is not valid UTF-8 text.")
        return ExitCode.USAGE
    except OSError as error:
        say(f"textmill: {shown(error.strerror or 'the operating system refused')}.")
        return ExitCode.ROWS_FAILED
    return result if isinstance(result, int) else ExitCode.OK
