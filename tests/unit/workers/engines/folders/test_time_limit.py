"""A tokenizer that does not come to an end holds up its own model alone."""

import threading
from pathlib import Path

import pytest

from db.errors import TextmillError
from workers.engines.folders.time_limit import TimeLimit


def test_a_call_that_never_ends_is_left_and_the_next_is_refused_at_once() -> None:
    limit = TimeLimit(Path("mine"), first_seconds=0.05)
    ever, asked = threading.Event(), list[str]()
    try:
        with pytest.raises(TextmillError, match="mine: its tokenizer did not come to an end") as caught:
            limit.run(ever.wait, 0)
        assert caught.value.code == "model_broken"
        with pytest.raises(TextmillError, match="did not come to an end"):
            limit.run(lambda: asked.append("again"), 0)
        assert asked == []
        assert TimeLimit(Path("other")).run(lambda: 1, 0) == 1
    finally:
        ever.set()


def test_a_longer_text_gets_longer() -> None:
    """The control: the same call, with a text that could take as long."""
    done = threading.Event()
    threading.Timer(0.2, done.set).start()
    assert TimeLimit(Path("mine"), first_seconds=0.05).run(done.wait, 10**6)


def test_a_pattern_that_is_given_up_is_told() -> None:
    """The library panics, which is no Exception."""

    class Panic(BaseException): ...

    def give_up() -> None:
        raise Panic

    limit = TimeLimit(Path("mine"))
    with pytest.raises(TextmillError, match="did not come to an end"):
        limit.run(give_up, 0)
    assert limit.run(lambda: "ids", 0) == "ids"


def test_what_a_call_returns_or_raises_comes_through() -> None:
    limit = TimeLimit(Path("mine"))
    assert limit.run(lambda: "ids", 0) == "ids"
    with pytest.raises(KeyError):
        limit.run(lambda: {}["no"], 0)
