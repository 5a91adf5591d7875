"""From texts to what a model says to each of their sequences: which are asked about, which fail, and where each answer goes."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.workers.runtimes import Device
from workers.arrays import Vectors
from workers.batches.outcomes import FailedRow
from workers.batches.ticket import Ticket
from workers.engines.contract.long_texts import DEFAULT_STRIDE, Long
from workers.engines.fake import MARKS, vector_of
from workers.inference.encoder import Answered, Encoder, _place
from workers.inference.runtime import Runtime

MODEL = "fake-encoder"
REFUSE, SPLIT, CUT = (Long(on_long=how) for how in ("refuse", "chunk", "truncate"))


@pytest.fixture
def encoder(fake_engine: None, tmp_path: Path) -> Iterator[Encoder]:
    models = Runtime(Device(tmp_path, lanes=1))
    yield models.encoder(MODEL)
    models.close()


def ask(encoder: Encoder, texts: list[str], *, long: Long | None = None, job: bytes | None = None) -> Answered:
    return encoder.answer(texts, None if long is None else [long] * len(texts), Ticket(job=job))


def vectors_of(texts: list[str]) -> Vectors:
    return np.stack([vector_of(text) for text in texts])


def test_every_text_gets_the_vector_of_its_own(encoder: Encoder) -> None:
    texts = [f"text {number}" for number in range(50)]
    answered = ask(encoder, texts)
    assert np.array_equal(answered.vectors, vectors_of(texts))
    assert answered.tokens == [len(text) for text in texts]
    assert answered.share.tokens == sum(answered.tokens)
    assert answered.failed == {}


def test_no_text_is_no_question(encoder: Encoder) -> None:
    answered = ask(encoder, [])
    assert answered.vectors.shape == (0, encoder.engine.dimensions)
    assert answered.share.batches == 0


def test_a_spoilt_text_fails_alone_and_its_vector_stays_empty(encoder: Encoder) -> None:
    answered = ask(encoder, ["a", MARKS["nan"], "b"])
    assert answered.failed == {1: "non_finite_output"}
    assert np.array_equal(answered.vectors[[0, 2]], vectors_of(["a", "b"]))
    assert not answered.vectors[1].any()


def test_a_long_text_is_cut_and_says_so(encoder: Encoder) -> None:
    whole = "x" * (encoder.engine.max_tokens + 5)
    for long in (None, CUT):
        answered = ask(encoder, ["a", whole], long=long)
        assert answered.truncated == [False, True]
        assert np.array_equal(answered.vectors, vectors_of(["a", whole[:-5]]))


def test_a_long_text_that_is_refused_is_not_asked_about(encoder: Encoder) -> None:
    answered = ask(encoder, ["a", "x" * (encoder.engine.max_tokens + 1), "b"], long=REFUSE)
    assert answered.failed == {1: "input_too_long"}
    assert answered.share.tokens == 2
    assert np.array_equal(answered.vectors[[0, 2]], vectors_of(["a", "b"]))


def test_a_long_text_is_read_in_windows_that_stand_where_it_stood(encoder: Encoder) -> None:
    size = encoder.engine.max_tokens
    long = "".join(chr(ord("a") + at // 1000) for at in range(2 * size))
    answered = ask(encoder, ["a", long, "b"], long=SPLIT)
    pieces = answered.pieces
    assert pieces.counts() == [1, 3, 1]
    assert answered.truncated == [False, False, False]
    step = size - DEFAULT_STRIDE
    windows = [long[at : at + size] for at in (0, step, 2 * step)]
    assert np.array_equal(answered.vectors, vectors_of(["a", *windows, "b"]))
    assert answered.tokens[1] == sum(map(len, windows))


def test_a_long_text_fails_with_the_first_of_its_windows_that_does(encoder: Encoder) -> None:
    answered = ask(encoder, ["a", "x" * encoder.engine.max_tokens + MARKS["nan"], "b"], long=SPLIT)
    assert answered.failed == {1: "non_finite_output"}
    assert np.array_equal(answered.vectors[[0, -1]], vectors_of(["a", "b"]))


def test_texts_of_a_job_with_the_same_tokens_are_asked_about_once(encoder: Encoder) -> None:
    texts = ["a", "b", "a", "a"]
    answered = ask(encoder, texts, job=b"job")
    assert answered.share.duplicate_rows == 2
    assert answered.share.tokens == 2
    assert np.array_equal(answered.vectors, vectors_of(texts))
    assert ask(encoder, texts, job=b"job").share.tokens == 0
    assert ask(encoder, texts).share.tokens == 4


def test_answers_are_put_in_all_their_places() -> None:
    vectors = np.zeros((6, 2), np.float32)
    failed: dict[int, str] = {}
    answers = [np.array([1, 2], np.float32), FailedRow("engine_error"), np.array([np.inf, 0], np.float32), np.array([3, 4], np.float32)]
    assert _place(vectors, failed, [[0, 5], [1], [2, 3], [4]], answers) == [0, 3]
    assert vectors.tolist() == [[1, 2], [0, 0], [0, 0], [0, 0], [3, 4], [1, 2]]
    assert failed == {1: "engine_error", 2: "non_finite_output", 3: "non_finite_output"}
