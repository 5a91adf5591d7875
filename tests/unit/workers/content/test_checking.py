"""Which answers pass."""

import sys
from pathlib import Path
from typing import Any

import pytest

from workers.content.checking import Checker, Failed, NotInstalled
from workers.content.checks import InvalidChecks, read_checks

Given = dict[str, Any]


def checker(*given: Given) -> Checker:
    return Checker(read_checks(given))


def passes(given: Given, text: str, *prompt: str) -> bool:
    return checker(given).failed([(text, prompt)]) is None


@pytest.mark.parametrize(
    ("given", "good", "bad"),
    [
        ({"check": "length", "max": 2}, "two words", "these are three"),
        ({"check": "length", "min": 2}, "two words", "one"),
        ({"check": "length", "unit": "characters", "min": 3, "max": 3}, " abc\n", "abcd"),
        ({"check": "required", "words": ["oak", "oiled"]}, "Oiled oak.", "Oak."),
        ({"check": "forbidden", "words": ["cheap", "best of all"]}, "Cheapest", "the best  of ALL"),
        ({"check": "regex", "pattern": r"\d+ cm"}, "it is 80 cm wide", "it is wide"),
        ({"check": "regex", "pattern": r"^#", "found": False}, "plain #", "# heading"),
        ({"check": "unlike_prompt"}, "An oiled table of oak.", "Write about an oak table!"),
    ],
    ids=lambda value: value["check"] if isinstance(value, dict) else "",
)
def test_what_meets_a_check_passes_and_what_does_not_fails(given: Given, good: str, bad: str) -> None:
    prompt = ("You are a writer.", "Write about an oak table.")
    assert passes(given, good, *prompt)
    assert not passes(given, bad, *prompt)


def test_the_first_check_that_is_not_passed_is_named_with_its_place() -> None:
    both = checker({"check": "length", "max": 3}, {"check": "forbidden", "words": ["cheap"]}, {"check": "regex", "pattern": "!"})
    assert both.failed([("a cheap chair", ())]) == Failed(1, "forbidden")


def test_all_answers_of_a_row_must_pass() -> None:
    short = checker({"check": "length", "max": 2})
    assert short.failed([("fine", ()), ("this is too long", ())]) == Failed(0, "length")


def test_a_text_that_is_like_one_that_passed_before_fails() -> None:
    others = checker({"check": "unlike_others", "similarity": 0.8}, {"check": "length", "max": 30})
    text = "This solid oak table seats six and is oiled by hand in our workshop in the old town."
    near = text.replace("six", "ten")
    assert others.failed([(text, ())]) is None
    assert others.failed([(near, ())]) == Failed(0, "unlike_others")
    assert others.failed([("A folding chair of beech that fits behind every door.", ())]) is None


def test_a_text_that_did_not_pass_is_nothing_to_be_unlike() -> None:
    others = checker({"check": "unlike_others"}, {"check": "required", "words": ["oak"]})
    assert others.failed([("a table of beech", ())]) == Failed(1, "required")
    assert others.failed([("a table of beech, or oak", ())]) is None


def test_answers_of_one_row_may_be_alike() -> None:
    others = checker({"check": "unlike_others"})
    assert others.failed([("a table of beech", ()), ("a table of beech", ())]) is None


@pytest.mark.parametrize("pattern", ["(", "(?=a)", r"(a)\1", "a{1001}", ".{0,900}.{0,900}", "\ud800"])
def test_a_pattern_that_is_none_or_takes_too_much_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidChecks) as refused:
        checker({"check": "length", "max": 9}, {"check": "regex", "pattern": pattern})
    assert refused.value.param == "checks[1].pattern"
    assert pattern not in str(refused.value)


def test_a_pattern_that_is_none_is_told_to_no_log(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InvalidChecks):
        checker({"check": "regex", "pattern": "(canary"})
    assert "canary" not in "".join(capfd.readouterr())


def test_a_pattern_that_explodes_elsewhere_does_not_here() -> None:
    assert not passes({"check": "regex", "pattern": "^(a+)+$"}, "a" * 100_000 + "b")


@pytest.mark.parametrize(
    ("check", "module"),
    [({"check": "language", "any_of": ["de"]}, "py3langid.langid"), ({"check": "json_schema", "schema": {}}, "jsonschema_rs")],
)
def test_a_check_that_is_not_installed_says_which(check: Given, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from workers.content import checking

    checking._identifier.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(NotInstalled) as missing:
        checker({"check": "length", "max": 9}, check)
    assert missing.value.place == 1


SCHEMA: Given = {
    "type": "object",
    "properties": {"name": {"type": "string", "pattern": "^[A-Z]"}, "price": {"type": "number"}},
    "required": ["name", "price"],
}


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ('{"price": 3.5, "name": "Oak"}', True),
        ('{"name": "oak", "price": 3}', False),
        ('{"name": "Oak"}', False),
        ('{"name": "Oak", "price": NaN}', False),
        ('Here it is: {"name": "Oak", "price": 3}', False),
        ("[" * 100_000, False),
    ],
)
def test_json_is_held_to_its_schema(text: str, good: bool) -> None:
    assert passes({"check": "json_schema", "schema": SCHEMA}, text) is good


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "http://example.com/a"},
        {"$ref": "file:///etc/hostname"},
        {"$ref": "#/canary"},
        {"type": "canary"},
        {"pattern": "(?=canary)"},
    ],
)
def test_a_schema_that_is_none_or_refers_outside_itself_is_refused(schema: Given) -> None:
    with pytest.raises(InvalidChecks) as refused:
        checker({"check": "json_schema", "schema": schema})
    assert refused.value.param == "checks[0].schema"
    assert "canary" not in str(refused.value)


def test_a_schema_of_a_file_of_the_worker_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    file.write_text('{"type": "string"}')
    with pytest.raises(InvalidChecks):
        checker({"check": "json_schema", "schema": {"$ref": file.as_uri()}})


def test_a_schema_that_names_itself_ends() -> None:
    assert passes({"check": "json_schema", "schema": {"anyOf": [{"$ref": "#"}, {"type": "string"}]}}, '"a"')


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Der Akkuschrauber ist robust und liegt gut in der Hand.", "de"),
        ("The garden hose is twenty metres long.", "en"),
        ("La chaise est en bois de hêtre.", "fr"),
        ("Een mooie stoel van hout", "nl"),
        ("Красивый деревянный стул", "ru"),
    ],
)
def test_a_language_is_told(text: str, language: str) -> None:
    assert passes({"check": "language", "any_of": [language]}, text)
    assert not passes({"check": "language", "any_of": ["el"]}, text)


def test_a_language_that_nobody_can_tell_is_refused() -> None:
    with pytest.raises(InvalidChecks) as refused:
        checker({"check": "language", "any_of": ["xx"]})
    assert refused.value.param == "checks[0].any_of"
