import pytest

from workers.content.yaml_tree import MAX_BYTES, MAX_DEPTH, Fault, read_tree

SECRET = "Klara-Geheim"


def told(source: str) -> str:
    with pytest.raises(Fault) as fault:
        read_tree(source)
    return str(fault.value)


def test_every_scalar_is_the_text_that_stands_there() -> None:
    fields = read_tree("a: no\nb: 1.10\nc: 012\nd: 2026-01-31\ne: 12:30\nf: null\ng:\nh: '5'").fields("it")
    assert {name: value.of for name, value in fields.items()} == {
        "a": "no",
        "b": "1.10",
        "c": "012",
        "d": "2026-01-31",
        "e": "12:30",
        "f": "null",
        "g": "",
        "h": "5",
    }


def test_a_value_knows_its_line() -> None:
    items = read_tree("# a note\nrules:\n  - one\n  - two").fields("it")["rules"].items("it")
    assert [item.line for item in items] == [3, 4]


def test_a_bomb_of_aliases_is_refused_at_its_first_anchor() -> None:
    bomb = "a: &a [lol, lol]\n" + "".join(f"{after}: &{after} [{', '.join([f'*{before}'] * 9)}]\n" for before, after in ("ab", "bc", "cd"))
    assert told(bomb).startswith("Line 1: anchors and aliases")


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system [ls]", "!include x", "!!binary aGk="])
def test_no_tag_makes_anything(tag: str) -> None:
    assert told(f"a: {tag}").startswith("Line 1: tags")


@pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ("{a: ", "}")])
def test_a_file_is_nested_only_so_deep(opened: str, closed: str) -> None:
    read_tree(opened * MAX_DEPTH + "x" + closed * MAX_DEPTH)
    assert f"more than {MAX_DEPTH} deep" in told(opened * (MAX_DEPTH + 1) + "x" + closed * (MAX_DEPTH + 1))
    assert told(opened * 100_000)


def test_a_file_has_a_size() -> None:
    assert "larger than" in told("a: " + "x" * MAX_BYTES)


def test_a_field_stands_once() -> None:
    assert told("a: 1\nb: 2\na: 3").startswith("Line 3: a field stands here for the second time")


@pytest.mark.parametrize("source", ["", "# nothing\n", "---\n---\n", "a: 1\n---\nb: 2"])
def test_a_file_is_one_document_that_says_something(source: str) -> None:
    if source.startswith("---"):
        assert "two documents" in told(source)
    else:
        assert told(source) in {"The file is empty.", "The file has two documents: leave out the line of dashes."}


@pytest.mark.parametrize(
    "source",
    [
        f"{SECRET}: [a",
        f"a: '{SECRET}",
        f"{SECRET}: {SECRET}: x",
        f"? {SECRET}\n? {SECRET}",
        f"a: *{SECRET}",
        f'"\\{SECRET}"',
        f"\x00{SECRET}",
    ],
)
def test_what_is_wrong_is_told_without_what_stands_there(source: str) -> None:
    assert SECRET not in told(source)


def test_unknown_fields_are_named_by_those_that_there_are() -> None:
    with pytest.raises(Fault) as fault:
        read_tree(f"rules: x\n{SECRET}: y").fields("a file", ("rules", "default"))
    assert str(fault.value) == "Line 2: a file has no such field; it may have `rules`, `default`."
