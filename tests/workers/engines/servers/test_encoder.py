"""Embeddings and classes of a server: in the order of the texts, of unit length, and in pieces where it refuses a text."""

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.faults.faulty_server import Asked, FaultyServer
from workers.batches.batcher import Batcher
from workers.batches.outcomes import EngineAway, RowsRefused
from workers.engines.fake import vector_of
from workers.engines.servers.encoder import POLICY, ServerEncoder
from workers.inference.duplicates import Duplicates
from workers.inference.encoder import Encoder
from workers.models.zero_shot import LabelSpace

EncoderOf = Callable[..., ServerEncoder]


def whole(engine: ServerEncoder) -> Encoder:
    batcher: Batcher[Any, Any, Any] = Batcher(
        engine.prepare, lambda prepared: list(engine.run(prepared)), name="remote", lanes=4, policy=POLICY
    )
    return Encoder("remote", engine, batcher, Duplicates(), LabelSpace())


def test_vectors_come_in_the_order_of_the_texts(server: FaultyServer, encoder_of: EncoderOf) -> None:
    encoder = whole(encoder_of(server, tasks=("embed",)))
    texts = [f"text {at} with ümläuts" for at in range(200)]
    answered = encoder.answer(texts)
    assert answered.failed == {}
    np.testing.assert_allclose(answered.vectors, np.stack([vector_of(text) for text in texts]), atol=1e-5)
    assert max(len(asked.texts) for asked in server.asked) > 4, "several texts make a request"
    encoder.batcher.stop(drain=True)


def test_a_text_that_the_server_refuses_fails_alone(encoder_of: EncoderOf) -> None:
    def behave(asked: Asked) -> str | None:
        return "400" if "bad" in asked.texts else None

    with FaultyServer(behave) as server:
        encoder = whole(encoder_of(server, tasks=("embed",), dimensions=32))
        answered = encoder.answer(["good", "bad", "better", "best"])
        assert answered.failed == {1: "refused_by_server::400|invalid_request_error"}
        encoder.batcher.stop(drain=True)


def test_vectors_of_another_length_than_the_operator_says_are_nonsense(server: FaultyServer, encoder_of: EncoderOf) -> None:
    engine = encoder_of(server, tasks=("embed",), dimensions=64, patience_seconds=0.3)
    with pytest.raises(EngineAway):
        engine.run(["a text"])


def test_classes_are_the_operators_labels_with_the_servers_probabilities(server: FaultyServer, encoder_of: EncoderOf) -> None:
    engine = encoder_of(server, tasks=("classify",), labels=("no", "yes"))
    logits = engine.run(["yes please", "never"])
    np.testing.assert_allclose(np.exp(logits), [[0.1, 0.9], [0.8, 0.2]], atol=1e-6)
    assert {asked.path for asked in server.asked} == {"/classify"}


def test_a_server_that_is_away_when_a_model_is_loaded_is_away(encoder_of: EncoderOf) -> None:
    with FaultyServer(lambda _asked: "500") as server, pytest.raises(EngineAway):
        encoder_of(server, tasks=("embed",), patience_seconds=0.3)


def test_what_stands_for_tokens_gives_the_text_again(server: FaultyServer, encoder_of: EncoderOf) -> None:
    engine = encoder_of(server, tasks=("embed",), dimensions=32)
    texts = ["", "a", "ab", "abc", "abcd", "日本語", "🙂 emoji"]
    sequences, cut = engine.tokenize(texts)
    assert engine.prepare(sequences) == texts
    assert not any(cut)


def test_a_refusal_of_a_batch_says_so(encoder_of: EncoderOf) -> None:
    with FaultyServer(lambda _asked: "too-long") as server:
        engine = encoder_of(server, tasks=("embed",), dimensions=32)
        with pytest.raises(RowsRefused) as refused:
            engine.run(["a", "b"])
        assert refused.value.code == "prompt_too_long"


def test_an_encoder_that_nobody_has_is_let_go_with_its_line(server: FaultyServer, encoder_of: EncoderOf) -> None:
    engine = encoder_of(server, tasks=("embed",))
    thread = engine._line._thread
    assert thread.is_alive()
    del engine
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()
