"""Rules: a YAML file of conditions on a row's columns, each with an answer; the first that holds decides. Pure.

    rules:
      - name: refunds
        when: {column: subject, contains: [refund, money back], ignore_case: true}
        label: billing
      - when: [{column: price, at_least: 100}, {column: stock, empty: true}]
        text: "{product} will be back soon."
        priority: 10
    default: {from_column: category}
    tests:
      - row: {subject: "A refund, please"}
        answer: billing

A higher ``priority`` goes first, of equal ones (0 where none is said) the earlier rule. An answer is a ``label`` as it stands, a ``text``
with slots, or what a column says. A row for which no rule holds takes the default.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Set
from typing import Final, NamedTuple

from workers.content.cells import Row, text_of
from workers.content.conditions import MOST_COMPARED, Conditions, Test, chars_of
from workers.content.filling import Fill, Unanswered, Written, answered, filling, joined
from workers.content.slots import Slot, read_slots
from workers.content.yaml_tree import Fault, Value, as_texts, read_tree

MAX_RULES: Final = 10_000
MAX_TESTS: Final = 10_000
MAX_NAME_CHARS: Final = 100
LIGHT: Final = 10_000  # the weight of conditions that are asked of any row, however long, where no regular expression is among them
CALL_CHARS: Final = 64  # as many are compared while one condition is asked
DEFAULT: Final = "default"
_ANSWERS: Final = ("label", "text", "from_column")
_WHY: Final = {
    "row_too_long": "the row is too long",
    "no_rule": "no rule holds",
    "empty_answer": "the answer is empty",
    "answer_too_long": "the answer is too long",
}
_PRIORITY: Final = re.compile(r"[+-]?[0-9]{1,9}")


class _Rule(NamedTuple):
    name: str
    priority: int
    test: Test
    answer: Fill


class Rules:
    """``columns``: all that a row must have of its table. Thread-safe: nothing changes after it is made."""

    def __init__(self, source: str, *, tested: bool = False) -> None:
        """Raises Fault: also where one of its own tests fails, unless these were held when it was stored (``tested``)."""
        fields = read_tree(source).fields("a file of rules", ("rules", "default", "tests"))
        if "rules" not in fields:
            raise Fault("The file has no `rules`.")
        conditions = Conditions()
        values = fields["rules"].items("`rules`")
        if not values:
            raise fields["rules"].fault("there are no rules")
        if len(values) > MAX_RULES:
            raise values[MAX_RULES].fault(f"there are more than {MAX_RULES:,} rules")
        rules = [_rule(value, number, conditions) for number, value in enumerate(values, 1)]
        names = set[str]()
        for rule, value in zip(rules, values, strict=True):
            if rule.name in names:
                raise value.fault("two rules have one name")
            names.add(rule.name)
        self._rules = sorted(rules, key=lambda rule: -rule.priority)
        self._default = None
        if "default" in fields:
            own = fields["default"].fields("the default", _ANSWERS)
            self._default = _answer(own, fields["default"], conditions)
        self.columns: Set[str] = frozenset(conditions.columns)
        self._weight, self._light = conditions.weight, conditions.weight <= LIGHT and not conditions.regexes
        self.rule_count, self.test_count = len(rules), 0
        if "tests" in fields and not tested:
            self._hold_tests(fields["tests"], names)

    def decide(self, row: Row) -> Written:
        """Raises Unanswered: ``no_rule`` where none holds and there is no default; ``row_too_long`` for so many conditions."""
        if not self._light and self._weight * chars_of(row, self.columns) > MOST_COMPARED:
            raise Unanswered("row_too_long")
        for rule in self._rules:
            if rule.test(row):
                return Written(answered(rule.answer(row)), rule.name)
        if self._default is None:
            raise Unanswered("no_rule")
        return Written(answered(self._default(row)), DEFAULT)

    def _hold_tests(self, value: Value, names: Collection[str]) -> None:
        tests = value.items("`tests`")
        if len(tests) > MAX_TESTS:
            raise tests[MAX_TESTS].fault(f"there are more than {MAX_TESTS:,} tests")
        if self._weight * (len(tests) * CALL_CHARS + value.chars) > MOST_COMPARED:
            raise value.fault("these are more tests, or longer ones, than can be held against so many conditions: leave some out")
        failed = [f"{number} (line {test.line}: {why})" for number, test, why in self._failing(tests, names)]
        if failed:
            more = f", and {len(failed) - 10:,} more" if len(failed) > 10 else ""
            raise Fault(f"{len(failed):,} of its {len(tests):,} tests fail: {', '.join(failed[:10])}{more}.")
        self.test_count = len(tests)

    def _failing(self, tests: list[Value], names: Collection[str]) -> Iterator[tuple[int, Value, str]]:
        for number, test in enumerate(tests, 1):
            fields = test.fields("a test", ("row", "text", "answer", "rule"))
            if not fields.keys() & {"answer", "rule"}:
                raise test.fault("a test says which `answer` or `rule` is expected")
            cells = as_texts(fields["row"].fields("`row`"), "a cell of a test") if "row" in fields else {}
            try:
                found = self.decide(Row(cells, fields["text"].text("`text`") if "text" in fields else ""))
            except Unanswered as none:
                found, why = None, _WHY[none.code]
            if "rule" in fields and (wanted := fields["rule"].text("`rule`")) not in names and wanted != DEFAULT:
                raise fields["rule"].fault("a test expects a rule that there is none of")
            if found is None:
                yield number, test, why
            elif "rule" in fields and found.rule != fields["rule"].of:
                yield number, test, "another rule holds"
            elif "answer" in fields and found.text != fields["answer"].text("`answer`"):
                yield number, test, "another answer"


def _rule(value: Value, number: int, conditions: Conditions) -> _Rule:
    fields = value.fields("a rule", ("name", "when", *_ANSWERS, "priority"))
    if "when" not in fields:
        raise value.fault("a rule says when it holds: `when`; what holds otherwise is the `default`")
    name = fields["name"].text("`name`") if "name" in fields else f"#{number}"
    if "name" in fields and (not 0 < len(name) <= MAX_NAME_CHARS or not name.isprintable() or name.startswith("#") or name == DEFAULT):
        raise fields["name"].fault(f"a rule's name has 1 to {MAX_NAME_CHARS} printable characters, and is neither #… nor {DEFAULT}")
    priority = fields["priority"].text("`priority`") if "priority" in fields else "0"
    if _PRIORITY.fullmatch(priority) is None:
        raise fields["priority"].fault("a priority is a whole number of nine digits at most")
    test = conditions.read(fields["when"])
    return _Rule(name, int(priority), test, _answer(fields, value, conditions))


def _answer(fields: Mapping[str, Value], value: Value, conditions: Conditions) -> Fill:
    given = [name for name in _ANSWERS if name in fields]
    if len(given) != 1:
        raise value.fault("an answer is one of `label`, `text` and `from_column`")
    kind, own = given[0], fields[given[0]]
    if kind == "label":
        label = own.text("`label`")
        return lambda _row: label
    if kind == "from_column":
        column = own.text("`from_column`")
        conditions.columns.add(column)
        return lambda row: text_of(row.cells.get(column))
    pieces = read_slots(own, "`text`", columns_only=True)
    conditions.columns.update(column for piece in pieces if isinstance(piece, Slot) for column in piece.columns)
    fills = [filling(piece) for piece in pieces]
    return lambda row: joined(fill(row) for fill in fills)
