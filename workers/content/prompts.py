"""A prompt: messages with places for the cells of a row, in Jinja, of which what is safe to run for anybody is left.

A prompt is somebody's program that runs beside other people's rows, so nothing in it can reach beyond them, or go on for long. It calls no
functions and sees no attributes: a dot, as a bracket, asks for an item. Its filters are those listed here. What it makes is charged to a
budget before it is made, and so is each round of a loop, by what is in it: the time of a row is bounded without a clock. What is not listed
here is refused when the prompt is stored, before anything of it runs.
"""

import json
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final

import jinja2
from jinja2 import nodes
from jinja2.exceptions import TemplateError, TemplateSyntaxError
from jinja2.runtime import LoopContext, StrictUndefined, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from workers.content.messages import PromptFault, read_source

MAX_SOURCE_CHARS: Final = 65_536
STEPS: Final = 100_000  # parts of loops' bodies that one row may go through
STEPS_OF_LONG: Final = 1_000  # of a row that is long: fewer, for each may look through all of it
LONG_CHARS: Final = 65_536
CHARS_BESIDE: Final = 262_144  # that may be made of a row beside
CHARS_OF_EACH: Final = 8  # characters for each one of the row and of the prompt
MAX_BITS: Final = 256  # of a whole number

_ROW: Final = "_row"  # what cells are asked of inside, by the names of the prompt; which do not begin so
_ALL: Final = "_all"  # the whole row
_COUNTED: Final = secrets.token_hex(16)  # filters that no prompt can name, not even to `map`
_JOINED: Final = secrets.token_hex(16)
_SLICED: Final = secrets.token_hex(16)
_OF_LOOPS: Final = frozenset({"index", "index0", "revindex", "revindex0", "first", "last", "length", "previtem", "nextitem"})
_FILTERS: Final = frozenset(
    {
        *("abs", "capitalize", "dictsort", "first", "float", "int", "items", "last", "length", "count", "list", "lower", "map", "max"),
        *("min", "reject", "rejectattr", "reverse", "select", "selectattr", "sort", "string", "title", "trim", "truncate", "unique"),
        *("upper", "wordcount"),
    }
)
_OWN_FILTERS: Final = ("default", "d", "join", "replace", "round", "sum", "tojson")
_AT_ONCE: Final = frozenset(  # what looks through a value in one go, and not item by item
    {
        *(
            "capitalize",
            "count",
            "d",
            "default",
            "first",
            "float",
            "int",
            "last",
            "length",
            "lower",
            "replace",
            "string",
            "title",
            "tojson",
        ),
        *("trim", "truncate", "upper", "wordcount"),
    }
)
_EXPRESSIONS: Final = (
    *(nodes.TemplateData, nodes.Const, nodes.List, nodes.Tuple, nodes.Dict, nodes.Pair, nodes.CondExpr, nodes.Filter, nodes.Test),
    *(nodes.Slice, nodes.Keyword, nodes.Compare, nodes.Operand, nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod),
    *(nodes.Not, nodes.And, nodes.Or, nodes.Neg, nodes.Pos, nodes.Name, nodes.Getitem, nodes.Getattr, nodes.Concat),
)
_STATEMENTS: Final = (nodes.Output, nodes.For, nodes.If, nodes.Assign, nodes.AssignBlock)
_NUMBERS: Final = (int, float)


class Unfilled(Exception):
    """A row of which the prompt makes nothing: ``code``, and nothing of the row."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class _Budget:
    """What is left of one row's."""

    def __init__(self) -> None:
        self.start(0, MAX_SOURCE_CHARS)  # for what is constant, and is made when the prompt is compiled

    def start(self, chars: int, source: int) -> None:
        self.chars = CHARS_BESIDE + CHARS_OF_EACH * (chars + source)
        self.steps = STEPS if chars <= LONG_CHARS else max(STEPS_OF_LONG, STEPS * LONG_CHARS // chars)

    def make(self, chars: int) -> None:
        self.chars -= chars
        if self.chars < 0 or chars < 0:
            raise Unfilled("prompt_too_large")

    def step(self, steps: int = 1) -> None:
        self.steps -= steps
        if self.steps < 0 or steps < 0:
            raise Unfilled("prompt_too_large")


class _Environment(ImmutableSandboxedEnvironment):
    """Of one prompt. The sandbox is behind what is refused before: it is asked by nothing that is let through."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self) -> None:
        self.budget = _Budget()
        super().__init__(autoescape=False, undefined=StrictUndefined, finalize=self.told, keep_trailing_newline=True, cache_size=0)
        self.globals.clear()
        budget = self.budget
        own = {
            "default": _default,
            "d": _default,
            "round": _round,
            "sum": _sum,
            "tojson": self.to_json,
            "string": self.text,
            "join": self.join,
            "replace": self.replace,
        }
        kept = {name: found for name, found in self.filters.items() if name in _FILTERS}
        charged = {name: _charged(name, found, budget) for name, found in {**kept, **own}.items()}
        self.filters = {**charged, _COUNTED: _counter(budget), _JOINED: self.join, _SLICED: _slicer(budget)}

    def told(self, value: Any) -> str:
        """What stands in a text for a value."""
        text = self.text(value)
        self.budget.make(len(text))
        return text

    def text(self, value: Any) -> str:
        if isinstance(value, str):
            return value
        if isinstance(value, list | tuple | dict):
            return self.to_json(value)
        return _text(value)

    def to_json(self, value: Any, indent: int | None = None) -> str:
        """No longer than what is left of the budget, which whoever takes it is charged for."""
        pieces, left = list[str](), self.budget.chars
        encoder = json.JSONEncoder(ensure_ascii=False, indent=min(indent, 8) if indent is not None else None, default=str)
        for piece in encoder.iterencode(value):
            left -= len(piece)
            if left < 0:
                raise Unfilled("prompt_too_large")
            pieces.append(piece)
        return "".join(pieces)

    def join(self, values: Iterable[Any], separator: str = "") -> str:
        parts: list[str] = []
        for value in values:
            text = self.text(value)
            self.budget.make(len(text) + len(separator))
            parts.append(text)
        return separator.join(parts)

    def replace(self, value: Any, old: str, new: str) -> str:
        text = self.text(value)
        self.budget.make(text.count(old) * len(new))
        return text.replace(old, new)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """An item, and never an attribute. What a row has nothing of is an empty text."""
        if isinstance(obj, dict):
            found = obj.get(argument, self)
            return self._undefined() if found is self else "" if found is None else found
        if isinstance(obj, list | tuple | str) and isinstance(argument, int):
            try:
                return obj[argument]
            except IndexError:
                return self._undefined()
        return self._undefined()

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, LoopContext):
            return getattr(obj, attribute) if attribute in _OF_LOOPS else self._undefined()
        return self.getitem(obj, attribute)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Arithmetic on numbers; two texts or lists are put together."""
        if operator == "+" and isinstance(left, str | list) and type(left) is type(right):
            self.budget.make(len(left) + len(right))
        elif isinstance(left, str | list | tuple | dict) or isinstance(right, str | list | tuple | dict):
            raise Unfilled("prompt_failed")
        made = self.binop_table[operator](left, right)
        if isinstance(made, int) and made.bit_length() > MAX_BITS:
            raise Unfilled("prompt_too_large")
        return made

    def _undefined(self) -> Undefined:
        return StrictUndefined()


def _text(value: Any) -> str:
    if isinstance(value, Undefined):
        return str(value)  # raises
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def _default(value: Any, instead: Any = "") -> Any:
    """Also of what is empty: a table does not tell the one from the other."""
    return instead if isinstance(value, Undefined) or value is None or value == "" else value


def _round(value: Any, precision: int = 0) -> Any:
    rounded = round(value, max(-15, min(15, precision)))
    return int(rounded) if precision <= 0 else rounded


def _sum(values: Iterable[Any]) -> Any:
    return sum(value for value in values if isinstance(value, _NUMBERS))


def _slicer(budget: _Budget) -> Callable[..., Any]:
    def sliced(value: Any, *bounds: int | None) -> Any:
        if not isinstance(value, str | list | tuple):
            raise Unfilled("prompt_failed")
        budget.make(len(range(*slice(*bounds).indices(len(value)))))
        return value[slice(*bounds)]

    return sliced


def _counter(budget: _Budget) -> Callable[..., Iterator[Any]]:
    def counted(values: Iterable[Any], steps: int, chars: int) -> Iterator[Any]:
        for value in values:
            budget.step(steps)
            budget.make(chars)
            yield value

    return counted


def _charged(name: str, filtering: Callable[..., Any], budget: _Budget) -> Callable[..., Any]:
    """A step for so many characters of what it looks through at once, or items that it takes one by one."""
    at = 1 if hasattr(filtering, "jinja_pass_arg") else 0
    shift = 16 if name in _AT_ONCE else 4

    @wraps(filtering)
    def charged(*given: Any, **named: Any) -> Any:
        value = given[at] if len(given) > at else None
        budget.step(1 + (len(value) >> shift if isinstance(value, str | list | tuple | dict) else 0))
        made = filtering(*given, **named)
        if isinstance(made, str):
            budget.make(len(made))
        return made

    return charged


class _Reduced:
    """A prompt's tree, of which all that is not listed is refused, in which names are cells, and loops are counted."""

    def __init__(self, tree: nodes.Template, where: str) -> None:
        self.names: dict[str, None] = {}  # of columns, in their order
        self.reads_all = False
        self._where = where
        if (place := tree.find(nodes.NSRef)) is not None:
            raise self._fault(place, "what is set has a name without a dot")
        self._own = {name.name for name in tree.find_all(nodes.Name) if name.ctx != "load"}
        for name in self._own:
            if name.startswith("_"):
                raise self._fault(tree, "a name that is set begins with a letter")
        self.tree = nodes.Template([self._statement(one, in_loop=False) for one in tree.body], lineno=1)
        assert tree.environment is not None
        self.tree.set_environment(tree.environment)

    def _fault(self, node: nodes.Node, what: str) -> PromptFault:
        return PromptFault(f"{self._where}, line {node.lineno}: {what}.")

    def _statement(self, node: nodes.Node, *, in_loop: bool) -> nodes.Node:
        if isinstance(node, nodes.Expr):
            expression: nodes.Expr = self._expression(node, in_loop=in_loop)
            return expression
        if not isinstance(node, _STATEMENTS):
            raise self._fault(node, f"a prompt has no {_word(node)}: it may use if, for and set")
        if isinstance(node, nodes.For):
            return self._loop(node, in_loop=in_loop)
        for name, value in node.iter_fields():
            if isinstance(value, list):
                setattr(node, name, [self._statement(one, in_loop=in_loop) if isinstance(one, nodes.Node) else one for one in value])
            elif isinstance(value, nodes.Node) and name != "target":
                setattr(node, name, self._statement(value, in_loop=in_loop))
        return node

    def _loop(self, node: nodes.For, *, in_loop: bool) -> nodes.Node:
        if node.recursive:
            raise self._fault(node, "a loop is not recursive")
        node.iter = self._expression(node.iter, in_loop=in_loop)
        node.test = None if node.test is None else self._expression(node.test, in_loop=True)
        node.body = [self._statement(one, in_loop=True) for one in node.body]
        node.else_ = [self._statement(one, in_loop=in_loop) for one in node.else_]
        within = [*node.body, *([] if node.test is None else [node.test])]
        steps = 1 + sum(1 for one in within for _ in one.find_all(nodes.Node))
        chars = sum(len(text.data) for one in within for text in one.find_all(nodes.TemplateData))
        costs: list[nodes.Expr] = [nodes.Const(steps), nodes.Const(chars)]
        node.iter = nodes.Filter(node.iter, _COUNTED, costs, [], None, None, lineno=node.lineno)
        return node

    def _expression(self, node: nodes.Node, *, in_loop: bool) -> Any:
        if isinstance(node, nodes.Call):
            raise self._fault(node, "a prompt calls no functions: filters do the same, as in {{ name|upper }}")
        if not isinstance(node, _EXPRESSIONS):
            raise self._fault(node, f"a prompt has no {_word(node)}")
        if isinstance(node, nodes.Name):
            return self._name(node, in_loop=in_loop)
        if isinstance(node, nodes.Getattr):
            if in_loop and isinstance(node.node, nodes.Name) and node.node.name == "loop":
                if node.attr not in _OF_LOOPS:
                    raise self._fault(node, f"loop has {', '.join(sorted(_OF_LOOPS))}")
                return node
            node = nodes.Getitem(node.node, nodes.Const(node.attr), "load", lineno=node.lineno)
        if isinstance(node, nodes.Getitem) and self._is_row(node.node) and isinstance(node.arg, nodes.Const):
            return self._cell(str(node.arg.value), node.lineno)
        if isinstance(node, nodes.Filter) and (node.node is None or node.name not in {*_FILTERS, *_OWN_FILTERS}):
            raise self._fault(node, f"there is no such filter; known are {', '.join(sorted({*_FILTERS, *_OWN_FILTERS}))}")
        self._hold_flat(node)
        for name, value in node.iter_fields():
            if isinstance(value, list):
                setattr(node, name, [self._expression(one, in_loop=in_loop) if isinstance(one, nodes.Node) else one for one in value])
            elif isinstance(value, nodes.Node):
                setattr(node, name, self._expression(value, in_loop=in_loop))
        if isinstance(node, nodes.Concat):
            return nodes.Filter(nodes.List(node.nodes), _JOINED, [], [], None, None, lineno=node.lineno)
        if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
            bounds = [nodes.Const(None) if one is None else one for one in (node.arg.start, node.arg.stop, node.arg.step)]
            return nodes.Filter(node.node, _SLICED, bounds, [], None, None, lineno=node.lineno)
        return node

    def _hold_flat(self, node: nodes.Node) -> None:
        """A list that holds a name twice, is set to that name, and so on, has more items than could ever be looked through."""
        held: list[nodes.Node] = []
        if isinstance(node, nodes.List | nodes.Tuple | nodes.Dict):
            held = [node]
        elif isinstance(node, nodes.Filter) and node.name == "map":
            held = [*node.args, *node.kwargs]
        for one in held:
            if any(name.name in self._own for name in [*([one] if isinstance(one, nodes.Name) else []), *one.find_all(nodes.Name)]):
                raise self._fault(
                    node, "what is set, or is of a loop, stands in no list, and is given to no `map`; texts are put together by ~"
                )

    def _name(self, node: nodes.Name, *, in_loop: bool) -> nodes.Expr:
        if node.ctx != "load" or node.name in self._own:
            return node
        if in_loop and node.name == "loop":
            raise self._fault(node, "of a loop its parts are known, as loop.index")
        if node.name == "row":
            self.reads_all = True
            return nodes.Name(_ALL, "load", lineno=node.lineno)
        return self._cell(node.name, node.lineno)

    def _is_row(self, node: nodes.Node) -> bool:
        return isinstance(node, nodes.Name) and node.name == "row" and "row" not in self._own

    def _cell(self, name: str, line: int) -> nodes.Expr:
        self.names[name] = None
        return nodes.Getitem(nodes.Name(_ROW, "load", lineno=line), nodes.Const(name), "load", lineno=line)


def _word(node: nodes.Node) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(node).__name__).lower()


@dataclass(frozen=True, slots=True)
class Turn:
    """A message that was filled in."""

    role: str
    content: str


class Prompt:
    """A compiled prompt; of one thread. ``names``: of cells that it asks for, as it writes them. Raises PromptFault."""

    def __init__(self, source: str) -> None:
        if len(source) > MAX_SOURCE_CHARS:
            raise PromptFault(f"A prompt may have {MAX_SOURCE_CHARS:,} characters.")
        messages = read_source(source)
        self.roles = [role for role, _, _ in messages]
        self._chars = len(source)
        self._environment = _Environment()
        self.names: dict[str, None] = {}
        self.reads_all = False  # so that no column of a table is left aside
        self._filled = [(role, self._compiled(written, where)) for role, written, where in messages]

    def fill(self, cells: Mapping[str, Any], chars: int, row: Mapping[str, Any] | None = None) -> list[Turn]:
        """The messages of a row. ``cells``: by what ``names`` calls them. ``chars``: what the row has, at least. ``row``: all of it, where
        that is asked for. Raises Unfilled."""
        self._environment.budget.start(chars, self._chars)
        given = {_ROW: cells, _ALL: row}
        try:
            turns = [Turn(role, "".join(template.root_render_func(template.new_context(given)))) for role, template in self._filled]
            for turn in turns:
                turn.content.encode()  # half a character is no text
            return turns
        except Unfilled:
            raise
        except Exception:  # what it says may hold the row
            raise Unfilled("prompt_failed") from None

    def _compiled(self, written: str, where: str) -> jinja2.Template:
        env = self._environment
        try:
            reduced = _Reduced(env.parse(written), where)
            self.names |= reduced.names
            self.reads_all = self.reads_all or reduced.reads_all
            code = env.compile(reduced.tree)
            return jinja2.Template.from_code(env, code, env.make_globals(None))
        except PromptFault:
            raise
        except TemplateSyntaxError as error:
            raise PromptFault(f"{where}, line {error.lineno}: {(error.message or '').rstrip('.')}.") from None
        except (TemplateError, Unfilled, SyntaxError, RecursionError, MemoryError, ValueError, TypeError, ArithmeticError):
            raise PromptFault(f"{where}: this is nested too deeply, or comes to nothing.") from None


def columns_meant(names: Iterable[str], columns: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """By what a prompt calls it, each column that it means: the one of this name, or else the only one that reads so once all that is no
    letter, digit or underscore is one. And the names that mean none."""
    there, alike = set(columns), dict[str, list[str]]()
    for column in columns:
        alike.setdefault(re.sub(r"\W", "_", column), []).append(column)
    meant: dict[str, str] = {}
    missing: list[str] = []
    for name in names:
        found = [name] if name in there else alike.get(name, [])
        if len(found) == 1:
            meant[name] = found[0]
        else:
            missing.append(name)
    return meant, missing
