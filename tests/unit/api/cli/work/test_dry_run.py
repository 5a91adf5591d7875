"""A dry run: the input is read as an upload of it would be, and what is known of the job is told in lines that fit a terminal."""

import time
from contextlib import nullcontext
from io import BytesIO

import pytest

from api.cli.terminal.exits import CommandError
from api.cli.work.dry_run import Counted, count, figures, filled_in, text_of
from api.wire import Fault, Forecast


def counted(data: bytes, name: str, **fields: str) -> Counted:
    return count(nullcontext((BytesIO(data), None)), name, {"purpose": "rows", **fields})


def test_rows_and_characters_are_counted_and_the_first_three_kept() -> None:
    found = counted(b"text,queue\n" + b"".join(b"row %d,a\n" % number for number in range(5)), "rows.csv")
    assert (found.rows, found.chars, found.defects) == (5, 25, 0)
    assert [text_of(body) for body in found.first] == ["row 0", "row 1", "row 2"]


def test_rows_that_cannot_be_read_are_counted_apart() -> None:
    found = counted(b'{"input": "good"}\nbroken\n', "rows.jsonl")
    assert (found.rows, found.defects) == (1, 1)


def test_where_no_row_can_be_read_that_is_said_and_so_is_what_an_upload_would_refuse() -> None:
    with pytest.raises(CommandError, match="No row"):
        counted(b"broken\n", "rows.jsonl")
    with pytest.raises(CommandError, match="column"):
        counted(b"queue\na\n", "rows.csv", text_column="text")


def test_what_is_known_is_told_and_nothing_else() -> None:
    known = Forecast(2_225, 512_000, 71_000, 754.0, int(time.time()) + 840, price=0.2134, currency="EUR")
    told = dict(figures(known, Counted(2_225, 1_000_000, 3)))
    assert told["rows"] == "2,225, and 3 that cannot be read"
    assert (told["tokens in"], told["tokens out"], told["work"]) == ("about 512,000", "about 71,000", "about 12 min of a worker")
    assert told["done at"].endswith(("in 13 min", "in 14 min"))
    assert told["price"] == "about 0.2134 EUR"
    assert max(len(f"{name:12}{value}") for name, value in told.items()) < 80
    unknown = Forecast(5, unforeseen=Fault("unmeasured", "no job of this kind has run lately"))
    assert figures(unknown, Counted(5, 100)) == [("rows", "5"), ("characters", "100"), ("not known", "no job of this kind has run lately")]


class Prompts:
    """Stands in for the client."""

    def get(self, path: str) -> dict[str, object]:
        assert path == "/v1/prompts/about%402"
        return {"source": "system: Be brief.\nuser: About {{ name }}", "error": None}


def test_rows_are_shown_as_the_prompt_fills_them_in_and_counted_so() -> None:
    once = nullcontext((BytesIO(b"name,price\n" + b"oak,1\n" * 5), None))  # as stdin, which cannot be read again
    found = count(once, "rows.csv", {"purpose": "rows", "text_column": "name"}, sampled=1_000)
    shown = filled_in(Prompts(), "about@2", found)  # type: ignore[arg-type]
    assert shown == ["system: Be brief.\nuser: About oak"] * 3
    assert found.chars == 5 * len("Be brief.About oak")


def test_a_prompt_that_names_what_is_not_there_is_refused() -> None:
    found = count(nullcontext((BytesIO(b"text\noak\n"), None)), "rows.csv", {"purpose": "rows"}, sampled=1_000)
    with pytest.raises(CommandError, match="name"):
        filled_in(Prompts(), "about@2", found)  # type: ignore[arg-type]


def test_a_chat_is_shown_as_it_is() -> None:
    assert text_of(b'{"prompt": "Hello"}') == "Hello"
    assert text_of(b'{"messages": []}') == '{"messages": []}'
