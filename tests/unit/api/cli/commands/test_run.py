"""What `textmill run --set` makes of a field."""

import pytest

from api.cli.commands.run import parse_field
from api.cli.terminal.exits import CommandError
from workers.tasks import TASKS

BODY = TASKS["generate"].body_of("/v1/chat/completions")


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ('labels=["a","b"]', ["a", "b"]),
        ("top_p=0.5", 0.5),
        ("label_set=news", "news"),
        ("prompt=a=b", "a=b"),
        ("prompt=", ""),
        ("prompt=" + "[" * 6_000, "[" * 6_000),
        ("prompt={name} is late", "{name} is late"),
        ('response_format={"type": "json_object"}', {"type": "json_object"}),
        ("guided_json=a schema", "a schema"),
    ],
)
def test_a_field_is_json_or_plain_text(pair: str, value: object) -> None:
    assert parse_field(pair, BODY) == (pair.partition("=")[0], value)


@pytest.mark.parametrize(
    ("pair", "where"),
    [
        ("response_format={type: zebra}", "from its character 2 on (Expecting property name enclosed in double quotes)"),
        ('response_format={"type": "zebra"', "from its character 17 on (Expecting ',' delimiter)"),
        ('guided_json={"enum": ["zebra}', "from its character 11 on (Unterminated string starting)"),
        ('response_format={"zebra": NaN}', "holds a number that JSON has not"),
        ("response_format=" + '{"a":' * 100_000, "nested too deeply"),
        ("messages=[zebra]", "from its character 2 on (Expecting value)"),
    ],
)
def test_json_that_is_none_is_told_by_its_place_and_not_by_its_content(pair: str, where: str) -> None:
    with pytest.raises(CommandError) as caught:
        parse_field(pair, BODY)
    assert where in caught.value.message
    assert caught.value.message.startswith(f"--set {pair.partition('=')[0]} takes JSON")
    assert "zebra" not in caught.value.message


@pytest.mark.parametrize("pair", ["labels", "=a"])
def test_a_field_without_a_name_or_a_value_is_told_apart(pair: str) -> None:
    with pytest.raises(CommandError, match="FIELD=VALUE"):
        parse_field(pair, BODY)
