"""What the terminal says of a job's end, and how its options become a job's terms."""

import time

import pytest

from api.cli.terminal.exits import CommandError
from api.cli.work.terms import say_promise, terms
from api.wire import Batch, Extras, Fault, JobWarning

Captured = pytest.CaptureFixture[str]


def said(captured: Captured, status: str = "validating", **told: object) -> str:
    say_promise(Batch("batch_ab", "/v1/classifications", status, "file-1", 0, textmill=Extras(**told)))  # type: ignore[arg-type]
    return captured.readouterr().err


def test_when_it_will_be_done_is_said_in_a_line(capsys: Captured) -> None:
    line = said(capsys, expected_at=int(time.time()) + 150)
    assert line.startswith("Expected to be done at 20")
    assert line.endswith("(in 2 min).\n")


def test_why_it_cannot_be_told_is_said_and_nothing_of_one_that_has_ended(capsys: Captured) -> None:
    fault = Fault("unmeasured", "no job of this kind has run lately.")
    assert said(capsys, unforeseen=fault) == "When it will be done cannot be told: no job of this kind has run lately.\n"
    assert said(capsys, "completed", unforeseen=fault) == ""
    assert said(capsys) == ""


def test_that_it_will_be_late_is_said_too(capsys: Captured) -> None:
    warnings = [JobWarning("late", "It would be done after its completion window ends.", 5), JobWarning("truncated", "cut", 1)]
    assert said(capsys, expected_at=int(time.time()) + 9, warnings=warnings).splitlines()[1:] == [
        "Note: It would be done after its completion window ends."
    ]


def test_if_late_takes_two_words() -> None:
    assert [terms(None, None), terms("refuse", None)] == [{}, {"if_late": "refuse"}]
    with pytest.raises(CommandError):
        terms("warn", None)


def test_a_budget_is_what_of_it_was_given() -> None:
    assert terms(None, 0.5, 100) == {"budget": {"max_output_tokens": 100, "max_hours": 0.5}}
    assert terms(None, 2.0) == {"budget": {"max_hours": 2.0}}
    with pytest.raises(CommandError):
        terms(None, 0.0)
