"""Fills a model's chat template, in a process of its own that imports nothing of ours: a template is a program, and one that loops, or
grows beyond all bounds, ends this process and holds up nobody.

Lines of JSON on its standard input: the template, what is told it of the model, its time; then messages. Lines of JSON come back. Templates
are written for the environment of transformers (`transformers/utils/chat_template_utils.py`), so that is the one here.
"""

import json
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

import jinja2
import jinja2.exceptions
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.utils
from jinja2.sandbox import ImmutableSandboxedEnvironment

MEMORY_BYTES: Final = 1 << 30
CHARS_BESIDE: Final = 1 << 20  # that a template may write beside what it was given, each of it twice


class Generation(jinja2.ext.Extension):
    """The tag that marks, for training, what an assistant said."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja has it

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class Namespace(jinja2.utils.Namespace):
    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise jinja2.exceptions.SecurityError
        super().__setitem__(name, value)


def environment() -> ImmutableSandboxedEnvironment:
    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    made.filters["tojson"] = _to_json
    made.globals["raise_exception"] = _raise_exception
    made.globals["namespace"] = Namespace
    made.globals["dict"] = lambda *given, **named: dict(*given, **named)  # a function, which has none of the type's attributes
    made.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return made


def _to_json(value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: object) -> None:
    raise jinja2.TemplateError


def fill(template: jinja2.Template, given: dict[str, Any]) -> str | None:
    """None where the template refuses the messages, fails on them, or makes far more of them than they are."""
    most = CHARS_BESIDE + 2 * sum(len(text) for message in given["messages"] for text in message.values())
    parts: list[str] = []
    try:
        for part in template.generate(**given, tools=None, documents=None, add_generation_prompt=True):
            parts.append(part)
            most -= len(part)
            if most < 0:
                return None
    except Exception:
        return None
    return "".join(parts)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: rows under way end first
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    first = json.loads(sys.stdin.buffer.readline())
    with _limited(first["seconds"]):
        template = _compiled(first["template"])
    _say(template is not None)
    if template is None:
        return
    for line in sys.stdin.buffer:
        with _limited(first["seconds"]):
            filled = fill(template, {**first["tokens"], "messages": json.loads(line)})
        _say(filled)


def _compiled(source: str) -> jinja2.Template | None:
    try:
        return environment().from_string(source)
    except Exception:  # beside what Jinja finds in it: nested too deeply, too large
        return None


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """``seconds``: of CPU, before this process is ended."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)


def _say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
