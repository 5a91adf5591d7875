"""A definition's YAML as a tree in which each value knows its line: every scalar is the text that stands there, so that `no` is no truth
value and `1.10` no number. What only serves to make a small file large, anchors and tags, is refused; so are keys that stand twice.

Messages name lines and words of ours, never what a file says.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

MAX_BYTES: Final = 4 * 2**20
MAX_DEPTH: Final = 32
MAX_VALUES: Final = 500_000


class Fault(ValueError):
    """What is wrong with a definition, in a sentence for whoever wrote it. Holds no content."""


@dataclass(frozen=True, slots=True)
class Value:
    """``of``: a text, a list of values, or values by key. ``line``: where it begins, from 1."""

    line: int
    of: "str | list[Value] | dict[str, Value]"

    def text(self, what: str) -> str:
        if not isinstance(self.of, str):
            raise self.fault(f"{what} is a text")
        return self.of

    def items(self, what: str) -> "list[Value]":
        if not isinstance(self.of, list):
            raise self.fault(f"{what} is a list")
        return self.of

    def fields(self, what: str, known: Sequence[str] = ()) -> "dict[str, Value]":
        """``known``: all that it may have; nothing where it may have any."""
        if not isinstance(self.of, dict):
            raise self.fault(f"{what} has fields: `name: value`, one a line")
        if known:
            for name, value in self.of.items():
                if name not in known:
                    raise value.fault(f"{what} has no such field; it may have {', '.join(f'`{one}`' for one in known)}")
        return self.of

    def flag(self, what: str) -> bool:
        text = self.text(what)
        if text not in ("true", "false"):
            raise self.fault(f"{what} is true or false")
        return text == "true"

    @property
    def chars(self) -> int:
        """Of all its texts together, names of fields left aside."""
        if isinstance(self.of, str):
            return len(self.of)
        return sum(value.chars for value in (self.of if isinstance(self.of, list) else self.of.values()))

    def fault(self, sentence: str) -> Fault:
        return Fault(f"Line {self.line}: {sentence}.")


def read_tree(source: str) -> Value:
    """Raises Fault."""
    if len(source.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise Fault(f"The file is larger than {MAX_BYTES // 2**20} MiB.")
    try:
        events = iter(yaml.parse(source, Loader=yaml.CBaseLoader))
        started = [next(events), next(events)]
        event = next(events)
        if isinstance(started[1], yaml.StreamEndEvent) or isinstance(event, yaml.DocumentEndEvent):
            raise Fault("The file is empty.")
        tree = _Builder(events).value(event, 0)
        next(events)
        if not isinstance(next(events), yaml.StreamEndEvent):
            raise Fault("The file has two documents: leave out the line of dashes.")
    except StopIteration:
        raise Fault("The file is empty.") from None
    except (yaml.YAMLError, UnicodeEncodeError) as error:
        raise Fault(_sentence(error)) from None
    return tree


class _Builder:
    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events
        self._values = 0

    def value(self, event: Any, depth: int) -> Value:
        line = event.start_mark.line + 1
        self._values += 1
        if self._values > MAX_VALUES:
            raise Fault(f"Line {line}: the file has more than {MAX_VALUES:,} values.")
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise Fault(
                f"Line {line}: anchors and aliases (`&name`, `*name`) are not read here: write it out, or quote a text that has them."
            )
        if event.tag is not None and not (isinstance(event, yaml.ScalarEvent) and event.tag == "!"):
            raise Fault(f"Line {line}: tags (`!name`) are not read here: quote a text that begins so.")
        if isinstance(event, yaml.ScalarEvent):
            return Value(line, event.value)
        if depth == MAX_DEPTH:
            raise Fault(f"Line {line}: the file is nested more than {MAX_DEPTH} deep.")
        if isinstance(event, yaml.SequenceStartEvent):
            return Value(line, [self.value(each, depth + 1) for each in self._until(yaml.SequenceEndEvent)])
        fields: dict[str, Value] = {}
        for key in self._until(yaml.MappingEndEvent):
            at = key.start_mark.line + 1
            name = self.value(key, depth + 1).text("the name of a field")
            if name in fields:
                raise Fault(f"Line {at}: a field stands here for the second time.")
            fields[name] = self.value(next(self._events), depth + 1)
        return Value(line, fields)

    def _until(self, end: type[Any]) -> Iterator[Any]:
        while not isinstance(event := next(self._events), end):
            yield event


def _sentence(error: Exception) -> str:
    """libyaml's own problems are constants; a reader's tells of a character."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    where = "" if mark is None else f"Line {mark.line + 1}: "
    told = f": {problem}" if isinstance(problem, str) and isinstance(error, yaml.MarkedYAMLError) else ""
    return f"{where}{'this is' if where else 'This is'} no YAML{told}."


def listed(value: Value, what: str) -> list[Value]:
    """A list, or the one value that stands in the place of one."""
    found = value.items(what) if isinstance(value.of, list) else [value]
    if not found:
        raise value.fault(f"{what} is empty")
    return found


def as_texts(fields: Mapping[str, Value], what: str) -> dict[str, str]:
    return {name: value.text(what) for name, value in fields.items()}
