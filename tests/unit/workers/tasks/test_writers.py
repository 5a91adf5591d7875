from uuid import UUID

import pytest

from db.queue.row import WorkRow
from workers.tasks.writers import Writer, writer_name

ID = UUID(int=7)


def written(source: str, text: str = "", kind: str = "rules", **row: object) -> object:
    writer = Writer.of(kind, ID, 3, source)
    assert isinstance(writer, Writer)
    return writer.write(WorkRow(0, **row), text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "expected"),
    [("rules:a@2", ("rules", "a@2")), ("template:a:b", ("templates", "a:b")), ("head:a", None), ("rules", None), (None, None)],
)
def test_a_model_that_is_rules_or_a_template_is_known_by_its_prefix(model: str | None, expected: tuple[str, str] | None) -> None:
    assert writer_name(model) == expected


def test_a_version_is_told_without_its_name() -> None:
    writer = Writer.of("rules", ID, 3, "rules: [{when: {contains: a}, label: x}]")
    assert isinstance(writer, Writer)
    assert writer.version == "rules@3:000000000000"


def test_columns_that_were_not_opened_are_not_taken_for_empty_ones() -> None:
    source = "rules: [{when: {column: a, empty: true}, label: x}]"
    assert written(source) == "columns_unread"
    assert written(source, columns={}) == ("x", "#1")
    assert written("text: '{a}!'", kind="templates") == "columns_unread"


def test_what_one_row_breaks_is_its_own() -> None:
    assert written("rules: [{when: {regex: a}, label: x}]", "\ud800") == "engine_error"


def test_a_definition_that_this_version_cannot_read_fails_its_rows() -> None:
    assert Writer.of("rules", ID, 3, "rules: {}") == "definition_broken"
