"""The tables of exit codes name those that there are, and no other."""

import re

from api.cli.terminal.exits import ExitCode
from api.docs.pages import find
from api.local.home.refusals import StackExit
from workers.host.memory import EX_CEILING, EX_PLANNED
from workers.host.process import EX_SOFTWARE
from workers.host.watchdog import EX_HANG


def codes_of(topic: str) -> list[int]:
    page = find(topic)
    assert page is not None
    return [int(code) for code in re.findall(r"^\| (\d+) \|", page.text, re.MULTILINE)]


def test_of_the_command_line() -> None:
    assert codes_of("commands") == sorted({*map(int, ExitCode), *map(int, StackExit)})


def test_of_a_worker() -> None:
    assert codes_of("operations") == [0, EX_SOFTWARE, EX_HANG, EX_PLANNED, EX_CEILING]
