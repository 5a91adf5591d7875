"""Completion without a server: how bash cuts words."""

import pytest

from api.cli.terminal.completion import whole_words


@pytest.mark.parametrize(
    ("pieces", "arguments", "begun"),
    [
        (["textmill", "label", "x.csv", "--head", "bb"], ["label", "x.csv", "--head"], "bb"),
        (["textmill", "label", "--model", "head", ":"], ["label", "--model"], "head:"),
        (["textmill", "label", "--model", "head", ":", "bb"], ["label", "--model"], "head:bb"),
        (["textmill", "label", "--model", "=", "head", ":", "b"], ["label"], "--model=head:b"),
        (["textmill", "jobs", "show", ""], ["jobs", "show"], ""),
        (["textmill", "heads", "delete", "'my he"], ["heads", "delete"], "my he"),
        (["textmill", "label", "'a file.csv'", "--he"], ["label", "a file.csv"], "--he"),
        (["textmill"], [], ""),
    ],
)
def test_what_bash_cut_at_colons_and_equals_signs_is_whole_again(pieces: list[str], arguments: list[str], begun: str) -> None:
    assert whole_words(pieces) == (arguments, begun)
