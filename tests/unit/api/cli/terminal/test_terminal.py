"""What data may do to a terminal: nothing."""

from hypothesis import given
from hypothesis import strategies as st

from api.cli.terminal.terminal import UNSHOWABLE, shortened, shown, shown_lines


def test_escape_sequences_are_spelled_out() -> None:
    assert shown("\x1b]0;owned\x07\x1b[2Jhi") == "\\x1b]0;owned\\x07\\x1b[2Jhi"
    assert shown("a\r\nb\tc") == "a\\r\\nb\\tc"
    assert shown("\x9b31m") == "\\x9b31m"


def test_text_that_would_run_backwards_is_spelled_out() -> None:
    assert shown("invoice\u202egpj.exe") == "invoice\\u202egpj.exe"


def test_lone_surrogates_can_be_printed() -> None:
    shown("\ud800").encode()


def test_letters_of_all_scripts_stay() -> None:
    text = "Grüße, καλημέρα, 你好, 👩‍👩‍👧"
    assert shown(text) == text


def test_lines_stay_lines_where_they_may() -> None:
    assert shown_lines("one\r\n\ttwo\x1b[H") == "one\n\ttwo\\x1b[H"


def test_a_long_text_is_cut_to_one_line() -> None:
    assert shortened("a b\n c" * 10, 8) == "a b ca …"


@given(st.text())
def test_nothing_that_steers_a_terminal_comes_through(text: str) -> None:
    assert not UNSHOWABLE.search(shown(text))
    assert not UNSHOWABLE.search(shown_lines(text).replace("\n", "").replace("\t", ""))
