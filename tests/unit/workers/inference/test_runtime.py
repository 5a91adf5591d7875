"""The whole way from texts to answers, on the deterministic engine."""

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from db.catalogue.heads import Head
from db.errors import TextmillError
from tests.workers.runtimes import Device
from workers.batches.outcomes import BatchReport, EngineBroken, FailedRow, Stopped
from workers.engines.contract.engine import Message
from workers.engines.contract.long_texts import TRUNCATE, Long, Pool
from workers.engines.fake import MARKS, expected_label, expected_text, vector_of
from workers.inference.runtime import Classified, Generated, GenerateRequest, Runtime
from workers.models.zero_shot import TEMPLATES, logits, prototypes, softmax, written

LABELS = ["red", "green", "blue"]
ENCODER, DECODER = "fake-encoder", "fake-decoder"
TEXTS = [f"text number {number}" for number in range(200)]


def classify(runtime: Runtime, texts: list[str], labels: list[str] = LABELS, **more: object) -> list[Classified | FailedRow]:
    return runtime.classify(ENCODER, texts, [labels] * len(texts), [None] * len(texts), **more).rows  # type: ignore[arg-type]


def label_of(row: Classified | FailedRow) -> str:
    assert isinstance(row, Classified)
    return row.label


def test_every_text_gets_its_own_answer(fake_runtime: Runtime) -> None:
    rows = classify(fake_runtime, TEXTS)
    assert [label_of(row) for row in rows] == [expected_label(text, LABELS) for text in TEXTS]
    for row, text in zip(rows, TEXTS, strict=True):
        assert isinstance(row, Classified)
        assert list(row.scores) == LABELS
        assert sum(row.scores.values()) == pytest.approx(1, abs=1e-5)
        assert max(row.scores, key=row.scores.__getitem__) == row.label
        assert (row.input_tokens, row.truncated) == (len(text), False)


def test_rows_of_one_call_may_bring_their_own_labels_and_templates(fake_runtime: Runtime) -> None:
    labels = [["a", "b"], LABELS, ["a", "b"], ["x", "y", "z"]]
    templates = [None, ["about {}", "{}!"], ["{}"], None]
    outcome = fake_runtime.classify(ENCODER, TEXTS[:4], labels, templates)
    expected = [expected_label(text, mine, form or TEMPLATES) for text, mine, form in zip(TEXTS, labels, templates, strict=False)]
    assert [label_of(row) for row in outcome.rows] == expected


def test_bad_rows_fail_with_their_code_and_their_neighbours_go_on(fake_runtime: Runtime) -> None:
    texts = [TEXTS[0], MARKS["error"], TEXTS[1], MARKS["nan"], MARKS["memory"], MARKS["crowded"], ""]
    rows = classify(fake_runtime, texts)
    codes = [row.code if isinstance(row, FailedRow) else None for row in rows]
    assert codes == [None, "engine_error", None, "non_finite_output", "out_of_memory", None, None]
    assert [label_of(rows[index]) for index in (0, 2, 5)] == [expected_label(texts[index], LABELS) for index in (0, 2, 5)]


def test_all_rows_bad_is_an_answer_too(fake_runtime: Runtime) -> None:
    assert classify(fake_runtime, [MARKS["error"]] * 3) == [FailedRow("engine_error")] * 3


def test_no_rows_are_no_answers(fake_runtime: Runtime) -> None:
    assert classify(fake_runtime, []) == []
    assert fake_runtime.embed(ENCODER, []).vectors.shape == (0, 32)
    assert fake_runtime.generate(DECODER, []).rows == []


def test_a_long_text_is_cut_and_marked_or_refused(fake_runtime: Runtime) -> None:
    long = "x" * 5000
    cut, refused, short = classify(fake_runtime, [long, long, "short"], long=[TRUNCATE, Long("refuse"), Long("refuse")])
    assert isinstance(cut, Classified)
    assert (cut.input_tokens, cut.truncated) == (4096, True)
    assert refused == FailedRow("input_too_long")
    assert isinstance(short, Classified)


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_a_long_text_is_read_in_windows_and_their_logits_are_pooled(fake_runtime: Runtime, pool: Pool) -> None:
    long = "".join(chr(97 + at % 26) for at in range(9_000))
    short, whole = classify(fake_runtime, ["short", long], long=[Long("chunk", pool, 96)] * 2)
    assert isinstance(short, Classified)
    assert (short.label, short.chunks) == (expected_label("short", LABELS), 1)
    assert isinstance(whole, Classified)
    windows = [long[:4096], long[4000:8096], long[8000:]]
    assert (whole.chunks, whole.truncated, whole.input_tokens) == (3, False, sum(map(len, windows)))
    made = prototypes(np.stack([vector_of(one) for one in written(LABELS, TEMPLATES)]), len(TEMPLATES))
    of_windows = logits(np.stack([vector_of(one) for one in windows]), made)
    pooled = of_windows.mean(axis=0) if pool == "mean" else of_windows.max(axis=0)
    assert whole.probabilities == pytest.approx(softmax(pooled[None])[0].tolist(), abs=1e-6)


def test_the_vector_of_a_long_text_in_windows_is_a_unit_vector_of_them_all(fake_runtime: Runtime) -> None:
    long = "x" * 3_000 + "y" * 3_000
    outcome = fake_runtime.embed(ENCODER, [long, "short"], long=[Long("chunk", "mean", 0), Long("chunk")])
    mean = (vector_of(long[:4096]) + vector_of(long[4096:])) / 2
    assert outcome.vectors[0] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)
    assert np.array_equal(outcome.vectors[1], vector_of("short"))
    assert (outcome.chunks, outcome.truncated) == ([2, 1], [False, False])


def test_a_text_with_a_bad_window_fails_alone(fake_runtime: Runtime) -> None:
    spoilt = "x" * 5_000 + MARKS["nan"]
    bad, good = classify(fake_runtime, [spoilt, "x" * 5_000], long=[Long("chunk")] * 2)
    assert bad == FailedRow("non_finite_output")
    assert isinstance(good, Classified)
    outcome = fake_runtime.embed(ENCODER, [spoilt], long=[Long("chunk")])
    assert outcome.failed == {0: FailedRow("non_finite_output")}
    assert not outcome.vectors.any()


def test_embeddings_come_in_order_and_failed_ones_are_told(fake_runtime: Runtime) -> None:
    outcome = fake_runtime.embed(ENCODER, ["one", MARKS["nan"], "three"])
    assert np.array_equal(outcome.vectors[[0, 2]], np.stack([vector_of("one"), vector_of("three")]))
    assert outcome.failed == {1: FailedRow("non_finite_output")}
    assert not outcome.vectors[1].any()
    assert outcome.tokens == [3, len(MARKS["nan"]), 5]


def test_a_label_that_cannot_be_embedded_fails_the_call_not_a_row(fake_runtime: Runtime) -> None:
    with pytest.raises(TextmillError) as caught:
        classify(fake_runtime, TEXTS[:2], ["fine", MARKS["error"]])
    assert caught.value.code == "engine_error"
    assert MARKS["error"] not in str(caught.value)


def test_prompts_and_chats_are_answered_in_order(fake_runtime: Runtime) -> None:
    requests = [
        GenerateRequest(prompt="continue this"),
        GenerateRequest(messages=(Message("system", "be kind"), Message("user", "hello"))),
        GenerateRequest(prompt="short", max_tokens=3),
    ]
    outcome = fake_runtime.generate(DECODER, requests)
    assert outcome.rows == [
        Generated(expected_text("continue this"), "stop", 13, 16),
        Generated(expected_text("hello"), "stop", 5, 16),
        Generated(expected_text("short", 3), "length", 5, 3),
    ]
    assert outcome.model_version == "fake-decoder@1"


def test_a_prompt_without_room_an_empty_answer_and_a_spoilt_one_fail_alone(fake_runtime: Runtime) -> None:
    prompts = ["x" * 4096, MARKS["empty"], MARKS["nan"], "fine"]
    rows = fake_runtime.generate(DECODER, [GenerateRequest(prompt=prompt) for prompt in prompts]).rows
    assert rows[:3] == [FailedRow("prompt_too_long"), FailedRow("empty_generation"), FailedRow("non_finite_output")]
    assert isinstance(rows[3], Generated)


def test_the_room_that_is_left_bounds_the_answer(fake_runtime: Runtime) -> None:
    (row,) = fake_runtime.generate(DECODER, [GenerateRequest(prompt="x" * 4090, max_tokens=500)]).rows
    assert isinstance(row, Generated)
    assert (row.output_tokens, row.finish_reason) == (6, "length")


def test_calls_of_many_threads_share_batches_and_keep_their_answers(
    fake_engine: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEXTMILL_FAKE_DELAY_MS", "2")
    reports: list[tuple[str, BatchReport]] = []
    runtime = Runtime(Device(tmp_path, lanes=1), observe=lambda model_id, report: reports.append((model_id, report)))
    with ThreadPoolExecutor(8) as threads:
        calls = list(threads.map(lambda number: runtime.classify(ENCODER, TEXTS[number * 5 : number * 5 + 5], [LABELS] * 5), range(40)))
    runtime.close()
    assert [label_of(row) for call in calls for row in call.rows] == [expected_label(text, LABELS) for text in TEXTS]
    assert {model_id for model_id, _ in reports} == {ENCODER}
    assert len(reports) < 40, "rows of several calls ran together"
    described = sum(len(f) for f in TEMPLATES) * 3 - 2 * 3 * len(TEMPLATES) + len(TEMPLATES) * sum(map(len, LABELS))
    assert sum(report.tokens for _, report in reports) == sum(map(len, TEXTS)) + described
    assert sum(call.share.tokens for call in calls) == sum(map(len, TEXTS)), "descriptions of labels are nobody's input"


def test_a_stopped_call_ends_and_its_neighbour_does_not(fake_engine: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTMILL_FAKE_DELAY_MS", "1")
    first_batch = threading.Event()
    runtime = Runtime(Device(tmp_path, lanes=1, budget_tokens=64), observe=lambda model_id, report: first_batch.set())
    stop = threading.Event()
    with ThreadPoolExecutor(2) as threads:
        stopped = threads.submit(runtime.embed, ENCODER, TEXTS * 20, stop=stop)
        assert first_batch.wait(20)
        other = threads.submit(runtime.embed, ENCODER, TEXTS[:3])
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
        call = threads.submit(runtime.embed, ENCODER, TEXTS)
        assert first_batch.wait(20)
        runtime.close(drain=True)
        assert call.result(20).failed == {}
    with pytest.raises(Stopped):
        runtime.embed(ENCODER, ["one more"])
    with pytest.raises(Stopped):
        runtime.generate(DECODER, [GenerateRequest(prompt="a model that was never loaded")])


def test_a_model_is_loaded_once_and_only_when_it_is_asked_for(fake_runtime: Runtime) -> None:
    before = threading.active_count()
    fake_runtime.warm([ENCODER])
    lanes_and_feeder = threading.active_count() - before
    assert lanes_and_feeder == 3
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda text: fake_runtime.embed(ENCODER, [text]), TEXTS[:20]))
    assert sum(thread.name.startswith(ENCODER) for thread in threading.enumerate()) == 3


def test_a_model_of_another_kind_or_none_is_refused(fake_runtime: Runtime) -> None:
    for call, code in (
        (lambda: fake_runtime.embed(DECODER, ["a"]), "model_task_mismatch"),
        (lambda: fake_runtime.generate(ENCODER, [GenerateRequest(prompt="a")]), "model_task_mismatch"),
        (lambda: fake_runtime.embed("no-such-model", ["a"]), "unknown_model"),
    ):
        with pytest.raises(TextmillError) as caught:
            call()
        assert caught.value.code == code


def test_a_trained_head_answers_with_its_own_labels_and_its_version_is_recorded(fake_runtime: Runtime) -> None:
    named = [expected_label(text, LABELS) for text in TEXTS]
    trained = fake_runtime.train_head(ENCODER, [*TEXTS, MARKS["nan"]], [*named, "red"])
    assert trained.card["labels"] == sorted(LABELS)
    assert trained.card["skipped"] == 1
    assert trained.card["base"] == ENCODER
    head = Head(uuid4(), ENCODER, trained.version, trained.card, trained.weights)
    outcome = fake_runtime.classify(ENCODER, [*TEXTS, MARKS["nan"]], head=head)
    right = [label_of(row) == label for row, label in zip(outcome.rows, named, strict=False)]
    assert np.mean(right) > 0.8
    assert outcome.rows[-1] == FailedRow("non_finite_output")
    assert outcome.model_version == f"fake-encoder@1+head@{trained.version[:12]}"


def test_a_head_over_another_encoder_is_refused(fake_runtime: Runtime) -> None:
    head = Head(uuid4(), "minilm-l6-v2", "0" * 16, {"labels": ["a", "b"]}, b"")
    with pytest.raises(TextmillError) as caught:
        fake_runtime.classify(ENCODER, ["a"], head=head)
    assert caught.value.code == "model_task_mismatch"


def test_no_content_is_logged_when_a_row_fails(fake_runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        classify(fake_runtime, ["a canary " + MARKS["error"], "a canary"])
    assert "canary" not in caplog.text


def test_a_lost_device_ends_the_call_without_blaming_a_row(fake_runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*arguments: object) -> None:
        raise EngineBroken

    monkeypatch.setattr("workers.engines.fake._suffer", lost)
    with pytest.raises(EngineBroken):
        fake_runtime.embed(ENCODER, ["a"])


def test_a_delay_makes_the_fake_engine_slow_enough_to_interrupt(fake_engine: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTMILL_FAKE_DELAY_MS", "5")
    runtime = Runtime(Device(tmp_path, lanes=1))
    started = time.monotonic()
    runtime.embed(ENCODER, TEXTS[:20])
    assert time.monotonic() - started >= 0.1
    runtime.close()


def test_an_interactive_call_is_answered_before_the_bulk_that_came_first(
    fake_engine: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEXTMILL_FAKE_DELAY_MS", "2")
    runtime = Runtime(replace(Device(tmp_path), lanes=1, budget_tokens=64))
    try:
        runtime.warm([ENCODER])
        with ThreadPoolExecutor(2) as threads:
            bulk = threads.submit(runtime.embed, ENCODER, [f"a text of bulk {number}" for number in range(400)])
            while not any(runtime._encoders[ENCODER].batcher._waiting.values()):
                time.sleep(0.001)
            answered = threads.submit(runtime.classify, ENCODER, ["quick"], [LABELS], [None], interactive=True).result()
            assert len(answered.rows) == 1
            assert not bulk.done()
            assert not bulk.result().failed
    finally:
        runtime.close()
