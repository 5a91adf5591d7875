"""The whole way from texts to answers, on the deterministic engine."""

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from db.catalogue.heads import Head
from db.errors import TextmillError
from db.queue.row import WorkRow
from tests.waiting import wait_until
from tests.workers.asking import asking, body_of, classify, embed, label_of, run, vector_in
from tests.workers.runtimes import Device
from workers.batches.outcomes import BatchReport, EngineBroken, FailedRow, Stopped
from workers.batches.ticket import Ticket
from workers.engines.contract.generation import GenerateRequest, Message
from workers.engines.contract.long_texts import Long, Pool
from workers.engines.fake import MARKS, expected_label, expected_text, vector_of
from workers.inference.runtime import Runtime
from workers.models.zero_shot import TEMPLATES, logits, prototypes, softmax, written
from workers.tasks.embed.running import vectors_of
from workers.training.head import fit_head

LABELS = ["red", "green", "blue"]
ENCODER, DECODER = "fake-encoder", "fake-decoder"
TEXTS = [f"text number {number}" for number in range(200)]


def labelled(runtime: Runtime, texts: Sequence[str], labels: list[str] = LABELS, **more: Any) -> list[WorkRow]:
    return classify(runtime, ENCODER, texts, [labels] * len(texts), **more)[1]


def codes(rows: Sequence[WorkRow]) -> list[str | None]:
    return [row.code for row in rows]


def said(rows: Sequence[WorkRow]) -> list[tuple[str, str, int, int]]:
    """Text, why it ended, tokens in and out."""
    choices = [(body_of(row)["choices"][0], row) for row in rows]
    return [
        (one["text"] if "text" in one else one["message"]["content"], one["finish_reason"], row.input_tokens, row.output_tokens)
        for one, row in choices
    ]


def test_a_text_of_nothing_but_unknown_tokens_is_marked(fake_runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the engine here a token is a byte; the first and the last stand for a model's own marks."""
    monkeypatch.setattr(fake_runtime.encoder(ENCODER).engine, "unknown_id", ord("?"), raising=False)
    texts = ["[???]", "[?]", "[?a?]", "[]", "plain"]
    assert ["all_unknown" in body_of(row) for row in labelled(fake_runtime, texts)] == [True, True, False, False, False]
    assert ["all_unknown" in body_of(row) for row in embed(fake_runtime, ENCODER, texts)[1]] == [True, True, False, False, False]


def test_every_text_gets_its_own_answer(fake_runtime: Runtime) -> None:
    rows = labelled(fake_runtime, TEXTS)
    assert [label_of(row) for row in rows] == [expected_label(text, LABELS) for text in TEXTS]
    for row, text in zip(rows, TEXTS, strict=True):
        answer = body_of(row)
        assert list(answer["scores"]) == LABELS
        assert sum(answer["scores"].values()) == pytest.approx(1, abs=1e-5)
        assert max(answer["scores"], key=answer["scores"].__getitem__) == answer["label"]
        assert (row.input_tokens, answer["truncated"]) == (len(text), False)


def test_rows_of_one_call_may_bring_their_own_labels_and_templates(fake_runtime: Runtime) -> None:
    labels = [["a", "b"], LABELS, ["a", "b"], ["x", "y", "z"]]
    templates = [None, ["about {}", "{}!"], ["{}"], None]
    _, rows = classify(fake_runtime, ENCODER, TEXTS[:4], labels, templates)
    expected = [expected_label(text, mine, form or TEMPLATES) for text, mine, form in zip(TEXTS, labels, templates, strict=False)]
    assert [label_of(row) for row in rows] == expected


def test_bad_rows_fail_with_their_code_and_their_neighbours_go_on(fake_runtime: Runtime) -> None:
    texts = [TEXTS[0], MARKS["error"], TEXTS[1], MARKS["nan"], MARKS["memory"], MARKS["crowded"], ""]
    rows = labelled(fake_runtime, texts)
    assert codes(rows) == [None, "engine_error", None, "non_finite_output", "out_of_memory", None, None]
    assert [label_of(rows[index]) for index in (0, 2, 5)] == [expected_label(texts[index], LABELS) for index in (0, 2, 5)]


def test_all_rows_bad_is_an_answer_too(fake_runtime: Runtime) -> None:
    assert codes(labelled(fake_runtime, [MARKS["error"]] * 3)) == ["engine_error"] * 3


def test_no_rows_are_no_answers(fake_runtime: Runtime) -> None:
    assert labelled(fake_runtime, []) == []
    assert fake_runtime.encoder(ENCODER).answer([]).vectors.shape == (0, 32)
    assert fake_runtime.decoder(DECODER).answer([]) == []


def test_a_long_text_is_cut_and_marked_or_refused(fake_runtime: Runtime) -> None:
    long = "x" * 5000
    cut, refused, short = labelled(fake_runtime, [long, long, "short"], long=[Long(), Long("refuse"), Long("refuse")])
    assert (cut.input_tokens, body_of(cut)["truncated"]) == (4096, True)
    assert codes([cut, refused, short]) == [None, "input_too_long", None]


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_a_long_text_is_read_in_windows_and_their_logits_are_pooled(fake_runtime: Runtime, pool: Pool) -> None:
    long = "".join(chr(97 + at % 26) for at in range(9_000))
    short, whole = labelled(fake_runtime, ["short", long], long=[Long("chunk", pool, 96)] * 2)
    assert label_of(short) == expected_label("short", LABELS)
    assert "chunks" not in body_of(short)
    windows = [long[:4096], long[4000:8096], long[8000:]]
    answer = body_of(whole)
    assert (answer["chunks"], answer["truncated"], whole.input_tokens) == (3, False, sum(map(len, windows)))
    made = prototypes(np.stack([vector_of(one) for one in written(LABELS, TEMPLATES)]), len(TEMPLATES))
    of_windows = logits(np.stack([vector_of(one) for one in windows]), made)
    pooled = of_windows.mean(axis=0) if pool == "mean" else of_windows.max(axis=0)
    assert list(answer["scores"].values()) == pytest.approx(softmax(pooled[None])[0].tolist(), abs=2e-6)


def test_the_vector_of_a_long_text_in_windows_is_a_unit_vector_of_them_all(fake_runtime: Runtime) -> None:
    long = "x" * 3_000 + "y" * 3_000
    _, (chunked, short) = embed(fake_runtime, ENCODER, [long, "short"], long=[Long("chunk", "mean", 0), Long("chunk")])
    mean = (vector_of(long[:4096]) + vector_of(long[4096:])) / 2
    assert vector_in(chunked) == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)
    assert vector_in(short) == pytest.approx(vector_of("short"), abs=1e-7)
    assert [(body_of(row).get("chunks"), body_of(row)["truncated"]) for row in (chunked, short)] == [(2, False), (None, False)]


def test_a_text_with_a_bad_window_fails_alone(fake_runtime: Runtime) -> None:
    spoilt = "x" * 5_000 + MARKS["nan"]
    assert codes(labelled(fake_runtime, [spoilt, "x" * 5_000], long=[Long("chunk")] * 2)) == ["non_finite_output", None]
    _, rows = embed(fake_runtime, ENCODER, [spoilt, "x" * 5_000], long=[Long("chunk")] * 2)
    assert codes(rows) == ["non_finite_output", None]
    encoder = fake_runtime.encoder(ENCODER)
    assert not vectors_of(encoder, encoder.answer([spoilt], [Long("chunk")])).any()


def test_embeddings_come_in_order_and_failed_ones_are_told(fake_runtime: Runtime) -> None:
    answered = fake_runtime.encoder(ENCODER).answer(["one", MARKS["nan"], "three"])
    assert np.array_equal(answered.vectors[[0, 2]], np.stack([vector_of("one"), vector_of("three")]))
    assert answered.failed == {1: "non_finite_output"}
    assert not answered.vectors[1].any()
    assert answered.tokens == [3, len(MARKS["nan"]), 5]


def test_a_label_that_cannot_be_embedded_fails_the_call_not_a_row(fake_runtime: Runtime) -> None:
    with pytest.raises(TextmillError) as caught:
        labelled(fake_runtime, TEXTS[:2], ["fine", MARKS["error"]])
    assert caught.value.code == "engine_error"
    assert MARKS["error"] not in str(caught.value)


def test_prompts_and_chats_are_answered_in_order(fake_runtime: Runtime) -> None:
    requests = [
        GenerateRequest(prompt="continue this"),
        GenerateRequest(messages=(Message("system", "be kind"), Message("user", "hello"))),
        GenerateRequest(prompt="short", max_tokens=3),
    ]
    ran, rows = run(fake_runtime, "generate", DECODER, [asking(request) for request in requests])
    assert said(rows) == [
        (expected_text("continue this"), "stop", 13, 16),
        (expected_text("hello"), "stop", 5, 16),
        (expected_text("short", 3), "length", 5, 3),
    ]
    assert ran.model_version == "fake-decoder@1"


def test_a_prompt_without_room_an_empty_answer_and_a_spoilt_one_fail_alone(fake_runtime: Runtime) -> None:
    prompts = ["x" * 4096, MARKS["empty"], MARKS["nan"], "fine"]
    _, rows = run(fake_runtime, "generate", DECODER, [asking(GenerateRequest(prompt=prompt)) for prompt in prompts])
    assert codes(rows) == ["prompt_too_long", "empty_generation", "non_finite_output", None]


def test_the_room_that_is_left_bounds_the_answer(fake_runtime: Runtime) -> None:
    _, rows = run(fake_runtime, "generate", DECODER, [asking(GenerateRequest(prompt="x" * 4090, max_tokens=500))])
    [(_, finish_reason, _, output_tokens)] = said(rows)
    assert (output_tokens, finish_reason) == (6, "length")


def test_calls_of_many_threads_share_batches_and_keep_their_answers(
    fake_engine: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEXTMILL_FAKE_DELAY_MS", "2")
    reports: list[tuple[str, BatchReport]] = []
    runtime = Runtime(Device(tmp_path, lanes=1), observe=lambda model_id, report: reports.append((model_id, report)))
    with ThreadPoolExecutor(8) as threads:
        pieces = [TEXTS[first : first + 5] for first in range(0, 200, 5)]
        calls = list(threads.map(lambda piece: classify(runtime, ENCODER, piece, [LABELS] * 5), pieces))
    runtime.close()
    assert [label_of(row) for _, rows in calls for row in rows] == [expected_label(text, LABELS) for text in TEXTS]
    assert {model_id for model_id, _ in reports} == {ENCODER}
    assert len(reports) < 40, "rows of several calls ran together"
    described = sum(len(f) for f in TEMPLATES) * 3 - 2 * 3 * len(TEMPLATES) + len(TEMPLATES) * sum(map(len, LABELS))
    assert sum(report.tokens for _, report in reports) == sum(map(len, TEXTS)) + described
    assert sum(ran.share.tokens for ran, _ in calls) == sum(map(len, TEXTS)), "descriptions of labels are nobody's input"


def test_the_pretended_decoder_heeds_stop_strings_as_a_real_one_does(fake_runtime: Runtime) -> None:
    whole = expected_text("continue this")
    stop = whole.split()[2]
    decoder = fake_runtime.decoder(DECODER)
    (cut, left) = decoder.answer(
        [GenerateRequest(prompt="continue this", stop=("never said", stop)), GenerateRequest(prompt="continue this")]
    )
    assert not isinstance(cut, FailedRow)
    assert not isinstance(left, FailedRow)
    assert (cut.text, cut.finish_reason) == (whole.partition(stop)[0], "stop")
    assert left.text == whole


def test_a_stopped_call_ends_and_its_neighbour_does_not(fake_engine: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTMILL_FAKE_DELAY_MS", "1")
    first_batch = threading.Event()
    runtime = Runtime(Device(tmp_path, lanes=1, budget_tokens=64), observe=lambda model_id, report: first_batch.set())
    stop = threading.Event()
    with ThreadPoolExecutor(2) as threads:
        stopped = threads.submit(runtime.encoder(ENCODER).answer, TEXTS * 20, None, Ticket(stop))
        assert first_batch.wait(20)
        other = threads.submit(runtime.encoder(ENCODER).answer, TEXTS[:3])
        stop.set()
        assert len(other.result(20).tokens) == 3
        with pytest.raises(Stopped):
            stopped.result(20)
    runtime.close()


def test_a_closed_runtime_takes_no_more_and_a_drain_finishes_what_it_took(
    fake_engine: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEXTMILL_FAKE_DELAY_MS", "1")
    first_batch = threading.Event()
    runtime = Runtime(Device(tmp_path, lanes=2), observe=lambda model_id, report: first_batch.set())
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(runtime.encoder(ENCODER).answer, TEXTS)
        assert first_batch.wait(20)
        runtime.close(drain=True)
        assert call.result(20).failed == {}
    with pytest.raises(Stopped):
        runtime.encoder(ENCODER).answer(["one more"])
    with pytest.raises(Stopped):
        runtime.decoder(DECODER).answer([GenerateRequest(prompt="a model that was never loaded")])


def test_a_model_is_loaded_once_and_only_when_it_is_asked_for(fake_runtime: Runtime) -> None:
    before = threading.active_count()
    fake_runtime.warm(ENCODER)
    lanes_and_feeder = threading.active_count() - before
    assert lanes_and_feeder == 3
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda text: fake_runtime.encoder(ENCODER).answer([text]), TEXTS[:20]))
    assert sum(thread.name.startswith(ENCODER) for thread in threading.enumerate()) == 3


def test_a_model_of_another_kind_or_none_is_refused(fake_runtime: Runtime) -> None:
    for call, code in (
        (lambda: fake_runtime.encoder(DECODER), "model_task_mismatch"),
        (lambda: fake_runtime.decoder(ENCODER), "model_task_mismatch"),
        (lambda: fake_runtime.encoder("no-such-model"), "unknown_model"),
    ):
        with pytest.raises(TextmillError) as caught:
            call()
        assert caught.value.code == code


def test_a_head_answers_with_its_own_labels_and_its_version_is_recorded(fake_runtime: Runtime) -> None:
    named = [expected_label(text, LABELS) for text in TEXTS]
    trained = fit_head(fake_runtime.encoder(ENCODER).answer(TEXTS).vectors, named)
    head = Head(uuid4(), 3, ENCODER, "0123456789abcdef", trained.card, trained.weights)
    texts = [*TEXTS, MARKS["nan"]]
    ran, rows = classify(fake_runtime, ENCODER, texts, [None] * len(texts), head=head)
    assert np.mean([label_of(row) == label for row, label in zip(rows, named, strict=False)]) > 0.8
    assert rows[-1].code == "non_finite_output"
    assert ran.model_version == "fake-encoder@1+head@3:0123456789ab"


def test_a_head_over_another_encoder_is_refused(fake_runtime: Runtime) -> None:
    head = Head(uuid4(), 1, "minilm-l6-v2", "0" * 16, {"labels": ["a", "b"]}, b"")
    with pytest.raises(TextmillError) as caught:
        classify(fake_runtime, ENCODER, ["a"], [None], head=head)
    assert caught.value.code == "model_task_mismatch"


def test_no_content_is_logged_when_a_row_fails(fake_runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        labelled(fake_runtime, ["a canary " + MARKS["error"], "a canary"])
    assert "canary" not in caplog.text


def test_a_lost_device_ends_the_call_without_blaming_a_row(fake_runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*arguments: object) -> None:
        raise EngineBroken

    monkeypatch.setattr("workers.engines.fake._suffer", lost)
    with pytest.raises(EngineBroken):
        fake_runtime.encoder(ENCODER).answer(["a"])


def test_a_delay_makes_the_fake_engine_slow_enough_to_interrupt(fake_engine: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTMILL_FAKE_DELAY_MS", "5")
    runtime = Runtime(Device(tmp_path, lanes=1))
    started = time.monotonic()
    runtime.encoder(ENCODER).answer(TEXTS[:20])
    assert time.monotonic() - started >= 0.1
    runtime.close()


def test_an_interactive_call_is_answered_before_the_bulk_that_came_first(
    fake_engine: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEXTMILL_FAKE_DELAY_MS", "2")
    runtime = Runtime(replace(Device(tmp_path), lanes=1, budget_tokens=64))
    try:
        runtime.warm(ENCODER)
        with ThreadPoolExecutor(2) as threads:
            bulk = threads.submit(runtime.encoder(ENCODER).answer, [f"a text of bulk {number}" for number in range(400)])
            waiting = runtime._encoders[ENCODER].batcher._waiting
            wait_until(lambda: any(waiting.values()), "the bulk waits", every_seconds=0.001)
            _, rows = threads.submit(classify, runtime, ENCODER, ["quick"], [LABELS], interactive=True).result()
            assert codes(rows) == [None]
            assert not bulk.done()
            assert not bulk.result().failed
    finally:
        runtime.close()
