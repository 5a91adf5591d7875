"""What `textmill run --set` makes of a field."""

import pytest

from api.cli.commands.run import parse_field
from api.cli.terminal.exits import CommandError


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ('labels=["a","b"]', ["a", "b"]),
        ("top_p=0.5", 0.5),
        ("label_set=news", "news"),
        ("prompt=a=b", "a=b"),
        ("prompt=", ""),
        ("prompt=" + "[" * 6_000, "[" * 6_000),
    ],
)
def test_a_field_is_json_or_plain_text(pair: str, value: object) -> None:
    assert parse_field(pair) == (pair.partition("=")[0], value)


@pytest.mark.parametrize("pair", ["labels", "=a"])
def test_a_field_without_a_name_or_a_value_is_told_apart(pair: str) -> None:
    with pytest.raises(CommandError, match="FIELD=VALUE"):
        parse_field(pair)
