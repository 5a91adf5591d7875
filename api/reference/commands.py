"""Every command with its arguments and options, from the tree that runs them and not from a rendered help: the same at any terminal."""

from collections.abc import Iterator
from typing import Any, Final

from typer.main import get_command

from api.cli.tree import build
from api.reference.tables import limits, shown, table, type_words

_PLACEHOLDERS: Final = {"whole number": "NUMBER", "number": "NUMBER", "text": "TEXT", "true or false": "", "path": "PATH"}


def part() -> str:
    return "\n\n".join(_section(path, command) for path, command in leaves(get_command(build()), "textmill"))


def leaves(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """(``textmill jobs list``, its command) of all commands that run."""
    for name, each in getattr(command, "commands", {}).items():
        yield from leaves(each, f"{path} {name}")
    if not hasattr(command, "commands"):
        yield path, command


def _section(path: str, command: Any) -> str:
    arguments = [parameter for parameter in command.params if not parameter.opts[0].startswith("-")]
    shown_arguments = "".join(f" {_bracketed(each)}" for each in arguments)
    paragraphs = [" ".join(each.split()) for each in (command.help or "").split("\n\n")]
    rows = [(f"`{_spelled(each)}`", _told(each)) for each in command.params if not each.hidden]
    return "\n\n".join([f"### `{path}{shown_arguments}`", *paragraphs, *([table(("option", "meaning"), rows)] if rows else [])])


def _bracketed(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    return name if argument.required or name.startswith("[") else f"[{name}]"


def _spelled(parameter: Any) -> str:
    """``--output, -o OUT``; the value's name is left out where there is none."""
    if not parameter.opts[0].startswith("-"):
        return str(parameter.metavar or parameter.name.upper())
    names = ", ".join(parameter.opts) + "".join(f" / {name}" for name in parameter.secondary_opts)
    if parameter.is_flag:
        return names
    words = type_words(parameter.type_descriptor.annotation)
    return f"{names} {parameter.metavar or _PLACEHOLDERS.get(words, words.replace('`', '').replace(' or ', '|'))}"


def _told(parameter: Any) -> str:
    told = [parameter.help] if parameter.help else []
    if bounds := limits(parameter.min, parameter.max):
        told.append(f"{bounds[0].upper()}{bounds[1:]}.")
    if parameter.default not in (None, False, True, ()):
        told.append(f"Default: {shown(parameter.default)}.")
    return " ".join(told)
