"""Labels as they are given at the command line."""

from pathlib import Path

import pytest

from api.cli.commands.label import asked_of_decoder, choose_labels, read_descriptions, read_labels, split_labels
from api.cli.terminal.exits import CommandError


@pytest.mark.parametrize(
    ("given", "labels"),
    [
        ("a,b", ["a", "b"]),
        (" a , b ", ["a", "b"]),
        ('"Sport, games",Business', ["Sport, games", "Business"]),
        ('Business, "Sport, games"', ["Business", "Sport, games"]),
        ('"say ""hi""",b', ['say "hi"', "b"]),
        ('6" pipe,8" pipe', ['6" pipe', '8" pipe']),
        ("Politik & Recht;1,b", ["Politik & Recht;1", "b"]),
        ('" sport ",b', ["sport", "b"]),
    ],
)
def test_labels_are_a_record_of_csv(given: str, labels: list[str]) -> None:
    assert split_labels([given]) == labels


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("sport,sport ", "“sport” is there twice"),
        ('sport," sport"', "is there twice"),
        ("sport,sp\u200bort", "is there twice"),
        ("café,cafe\u0301", "is there twice"),
        ("a,,b", "is empty"),
        ("a,\u200b", "is empty"),
        ('"Sport, games,Business', "A quote in --labels"),
        ('"a"b,c', "A quote in --labels"),
        ("a", "at least two"),
    ],
)
def test_labels_that_cannot_be_told_apart_or_read_are_refused(given: str, words: str) -> None:
    with pytest.raises(CommandError, match=words):
        split_labels([given])


def test_lists_of_labels_that_are_given_one_after_the_other_are_one() -> None:
    assert split_labels(["a,b", '"c, d"']) == ["a", "b", "c, d"]


def test_a_file_of_labels_holds_one_a_line_commas_and_all(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("Sport, games\n\nBusiness \n", encoding="utf-8")
    assert read_labels(str(path)) == ["Sport, games", "Business"]
    path.write_text("sport\nsport \n", encoding="utf-8")
    with pytest.raises(CommandError, match="twice"):
        read_labels(str(path))


@pytest.mark.parametrize(
    ("given", "model"), [("intents", "head:intents"), ("intents@1", "head:intents@1"), ("head:intents@1", "head:intents@1")]
)
def test_a_head_is_named_with_its_prefix_or_without(given: str, model: str) -> None:
    assert choose_labels(None, None, given, None) == {"model": model}


def test_descriptions_come_one_by_one_or_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "described.txt"
    path.write_text("\ufeffsport = matches = fun\n\n art=painting \n")
    assert read_descriptions(None, str(path)) == {"sport": "matches = fun", "art": "painting"}
    assert read_descriptions(["a b=c"], None) == {"a b": "c"}
    assert read_descriptions(None, None) == {}


@pytest.mark.parametrize("described", [["sport"], ["=x"], ["sport="], ["a=b", "a=c"]])
def test_a_description_that_is_none_is_told(described: list[str]) -> None:
    with pytest.raises(CommandError):
        read_descriptions(described, None)


def test_what_a_decoder_alone_reads_is_said_where_it_was_asked() -> None:
    assert asked_of_decoder({}, None, length_normalised=False, calibrated=None) == {}
    asked = {"descriptions": {"a": "b"}, "rotations": 2, "length_normalised": True, "calibrated": False}
    assert asked_of_decoder({"a": "b"}, 2, length_normalised=True, calibrated=False) == asked
