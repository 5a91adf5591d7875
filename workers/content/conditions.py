"""Conditions on a row's cells, as rules and template writers have them: read from a definition's tree, made into functions once.

A condition is about a ``column`` (left out: the row's text) and has one or more of the operators below, which must all hold; or it is
``all``, ``any`` or ``not`` of conditions. Texts are compared as they are, or, with ``ignore_case``, without case. A comparison of numbers
does not hold where the cell is none. A regular expression is RE2's and is looked for anywhere in the text: its time grows with the text
and never explodes.
"""

from collections.abc import Callable, Set
from decimal import Decimal
from typing import Any, Final

from workers.content.cells import Row, is_empty, number_of, text_of
from workers.content.patterns import MAX_REPEATS, NoPattern, repeats_of, search_of
from workers.content.yaml_tree import Value, listed

OPERATORS: Final = ("equals", "in", "contains", "regex", "above", "at_least", "below", "at_most", "empty")
FIELDS: Final = ("column", *OPERATORS, "ignore_case", "all", "any", "not")
MAX_REGEXES: Final = 500
REGEX_WEIGHT: Final = 4  # of a character; each counted repeat is one more state that RE2 may be in at it
REGEX_BYTES: Final = 2**20  # that RE2 may take for one; a pattern which needs more is refused, a text which would runs in less, slower

MOST_COMPARED: Final = 2 * 10**9  # characters, some seconds: the weight of all conditions times the row's length

Test = Callable[[Row], bool]
_OfCell = Callable[[Any], bool]


class Conditions:
    """What reads the conditions of one definition. ``columns``: those that it has met; ``weight``: how often a row's cells are looked
    through at most, where every condition is asked once; of a regular expression, by what it may take for a character. ``regexes``: how
    many of these there are."""

    def __init__(self) -> None:
        self.columns: set[str] = set()
        self.weight = 0
        self.regexes = 0

    def read(self, value: Value) -> Test:
        """Of a condition, or of a list of them, which must all hold. Raises Fault."""
        if isinstance(value.of, list):
            return self._together(value, all)
        fields = value.fields("a condition", FIELDS)
        joined = [name for name in ("all", "any", "not") if name in fields]
        if joined:
            if len(fields) > 1:
                raise value.fault("a condition is `all`, `any` or `not`, or about a column, and not two of these at once")
            name = joined[0]
            if name == "not":
                return _negated(self.read(fields[name]))
            return self._together(fields[name], all if name == "all" else any)
        column = None
        if "column" in fields:
            column = fields["column"].text("`column`")
            self.columns.add(column)
        fold = "ignore_case" in fields and fields["ignore_case"].flag("`ignore_case`")
        tests = [self._operator(name, fields[name], fold) for name in OPERATORS if name in fields]
        if not tests:
            raise value.fault(f"a condition has one of {', '.join(f'`{one}`' for one in OPERATORS)}, or is `all`, `any` or `not` of some")
        of_cell = tests[0] if len(tests) == 1 else _all_hold(tests)
        return _of_text(of_cell) if column is None else _of_column(column, of_cell)

    def _together(self, value: Value, how: Callable[[Any], bool]) -> Test:
        tests = [self.read(one) for one in value.items("what must hold together")]
        if not tests:
            raise value.fault("a list of conditions is empty")
        return tests[0] if len(tests) == 1 else _joined(tests, how)

    def _operator(self, name: str, value: Value, fold: bool) -> _OfCell:
        self.weight += len(value.of) if name == "contains" and isinstance(value.of, list) else 1
        if name == "empty":
            wanted = value.flag("`empty`")
            return is_empty if wanted else lambda cell: not is_empty(cell)
        if name == "regex":
            return self._regex(value, fold)
        if name == "equals":
            return _one_of({value.text("`equals`")}, fold)
        if name == "in":
            return _one_of({one.text("each of `in`") for one in value.items("`in`")}, fold)
        if name == "contains":
            return _contains([one.text("`contains`") for one in listed(value, "`contains`")], fold)
        bound = number_of(value.text(f"`{name}`"))
        if bound is None:
            raise value.fault(f"`{name}` is a number in digits, with a point where it is a fraction")
        return _compared(name, bound)

    def _regex(self, value: Value, fold: bool) -> _OfCell:
        self.regexes += 1
        if self.regexes > MAX_REGEXES:
            raise value.fault(f"there are more than {MAX_REGEXES:,} regular expressions: join some with |, or use `contains`")
        pattern = value.text("`regex`")
        repeats = repeats_of(pattern)
        if repeats > MAX_REPEATS:
            raise value.fault(f"the counted repeats of a regular expression come to more than {MAX_REPEATS:,}")
        self.weight += REGEX_WEIGHT * (1 + repeats)
        try:
            search = search_of(pattern, ignore_case=fold, max_bytes=REGEX_BYTES)
        except NoPattern:
            raise value.fault(
                "this is no regular expression that RE2 takes: it knows no looking around or back, and no huge repetition"
            ) from None
        return lambda cell: search(cell if type(cell) is str else text_of(cell)) is not None


def chars_of(row: Row, columns: Set[str]) -> int:
    """How long the texts are that conditions may look through."""
    return len(row.text) + sum(len(cell) for column in columns if isinstance(cell := row.cells.get(column), str))


def _one_of(texts: set[str], fold: bool) -> _OfCell:
    """Numbers in cells that are numbers are compared as such: 3 and 3.0 are one."""
    if fold:
        texts = {text.casefold() for text in texts}
    numbers = {number for number in map(number_of, texts) if number is not None}

    def holds(cell: Any) -> bool:
        if type(cell) is str:
            return (cell.casefold() if fold else cell) in texts
        number = number_of(cell)
        return text_of(cell) in texts if number is None else number in numbers

    return holds


def _contains(parts: list[str], fold: bool) -> _OfCell:
    if fold:
        parts = [part.casefold() for part in parts]

    def holds(cell: Any) -> bool:
        text = cell if type(cell) is str else text_of(cell)
        if fold:
            text = text.casefold()
        return any(part in text for part in parts)

    if len(parts) > 1 or fold:
        return holds
    part = parts[0]
    return lambda cell: part in (cell if type(cell) is str else text_of(cell))


def _compared(name: str, bound: int | float | Decimal) -> _OfCell:
    if name == "above":
        return lambda cell: (number := number_of(cell)) is not None and number > bound
    if name == "at_least":
        return lambda cell: (number := number_of(cell)) is not None and number >= bound
    if name == "below":
        return lambda cell: (number := number_of(cell)) is not None and number < bound
    return lambda cell: (number := number_of(cell)) is not None and number <= bound


def _all_hold(tests: list[_OfCell]) -> _OfCell:
    return lambda cell: all(test(cell) for test in tests)


def _of_column(column: str, of_cell: _OfCell) -> Test:
    return lambda row: of_cell(row.cells.get(column))


def _of_text(of_cell: _OfCell) -> Test:
    return lambda row: of_cell(row.text)


def _negated(test: Test) -> Test:
    return lambda row: not test(row)


def _joined(tests: list[Test], how: Callable[[Any], bool]) -> Test:
    return lambda row: how(test(row) for test in tests)
