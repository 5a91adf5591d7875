"""Labels by a decoder, whose scores are those of a hash of the prompt."""

import itertools
from collections.abc import Sequence
from threading import Event
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.workers.asking import body_of, run
from workers.batches.outcomes import Stopped
from workers.batches.ticket import Ticket
from workers.engines.contract.choices import Scored
from workers.engines.contract.decoding import DecoderRow
from workers.engines.fake import MARKS, expected_logprobs
from workers.inference.runtime import Runtime
from workers.models.fake_models import MAX_TOKENS
from workers.tasks.classify import by_decoder
from workers.tasks.classify.by_decoder import LabelList
from workers.tasks.classify.prompt import NOTHING, orders, question
from workers.tasks.classify.task import ClassifyBody

MODEL = "fake-decoder"
LABELS = ["sport", "politics", "art", "art history"]


def classified(runtime: Runtime, *asks: ClassifyBody) -> list[Any]:
    """Answers, or failure codes."""
    rows = run(runtime, "classify", MODEL, asks)[1]
    return [row.code or body_of(row) for row in rows]


def over_labels(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    return sums - np.log(np.exp(sums).sum())


def held_of(listed: Sequence[str], text: str, descriptions: dict[str, str] | None = None) -> NDArray[np.float64]:
    return over_labels(expected_logprobs("".join(question(listed, descriptions or {}, text)), len(LABELS)))


def known(text: str, labels: Sequence[str] = LABELS, *, rotations: int = 1, descriptions: dict[str, str] | None = None) -> dict[str, float]:
    prompts = ["".join(question(order, descriptions or {}, text)) for order in orders(labels, rotations)]
    mean = np.mean([over_labels(expected_logprobs(prompt, len(labels))) for prompt in prompts], axis=0)
    return dict(zip(labels, np.exp(over_labels(mean)), strict=True))


def calibrated(text: str, orders_shown: Sequence[Sequence[str]], descriptions: dict[str, str] | None = None) -> dict[str, float]:
    """``orders_shown``: of the list; empty where none is."""
    taken_off = [
        held_of(shown, text, descriptions) - np.mean([held_of(shown, nothing, descriptions) for nothing in NOTHING], axis=0)
        for shown in orders_shown
    ]
    return dict(zip(LABELS, np.exp(over_labels(np.mean(taken_off, axis=0))), strict=True))


@pytest.fixture
def going_on(fake_runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """Of a model without a chat template."""
    monkeypatch.setattr(fake_runtime.decoder(MODEL).engine.asking, "goes_on", True)
    return fake_runtime


def test_a_decoder_is_asked_for_the_label_and_its_scores_are_a_softmax_over_them(fake_runtime: Runtime) -> None:
    answer, other = classified(fake_runtime, *(ClassifyBody(input=text, labels=LABELS) for text in ("a goal", "a vote")))
    assert answer["scores"] == pytest.approx(known("a goal"), abs=1e-6)
    assert other["scores"] == pytest.approx(known("a vote"), abs=1e-6)
    assert answer["label"] == max(known("a goal"), key=lambda label: known("a goal")[label])
    assert answer["usage"]["input_tokens"] == len("".join(question(LABELS, {}, "a goal")).encode())
    assert (answer["model"], answer["model_version"], answer["truncated"]) == (MODEL, "fake-decoder@1", False)


def test_the_orders_of_a_list_are_averaged(fake_runtime: Runtime) -> None:
    asked = [ClassifyBody(input="a goal", labels=LABELS, rotations=count) for count in (1, 2, 3, 4, 64)]
    for count, answer in zip((1, 2, 3, 4, 4), classified(fake_runtime, *asked), strict=True):
        assert answer["scores"] == pytest.approx(known("a goal", rotations=count), abs=1e-6)
    assert [order[0] for order in orders(LABELS, 4)] == LABELS, "each label stands in each place once"
    assert [order[0] for order in orders(LABELS, 2)] == ["sport", "art"]


def test_a_model_that_goes_on_with_texts_is_shown_no_list_and_what_labels_get_without_a_text_is_taken_off(going_on: Runtime) -> None:
    answer, other = classified(going_on, *(ClassifyBody(input=text, labels=LABELS) for text in ("a goal", "a vote")))
    assert answer["scores"] == pytest.approx(calibrated("a goal", [()]), abs=1e-6)
    assert other["scores"] == pytest.approx(calibrated("a vote", [()]), abs=1e-6)
    assert not [label for label in LABELS if label in question((), {}, "")[0]]
    assert answer["usage"]["input_tokens"] == len("".join(question((), {}, "a goal")).encode()), "of its text alone"


def test_such_a_model_is_shown_the_list_where_orders_or_descriptions_are_given_and_each_order_is_calibrated(going_on: Runtime) -> None:
    described = {"art": "painting"}
    one, two, told, empty = classified(
        going_on,
        ClassifyBody(input="a goal", labels=LABELS, rotations=1),
        ClassifyBody(input="a goal", labels=LABELS, rotations=2),
        ClassifyBody(input="a goal", labels=LABELS, descriptions=described),
        ClassifyBody(input="a goal", labels=LABELS, descriptions={}),
    )
    assert one["scores"] == pytest.approx(calibrated("a goal", [LABELS]), abs=1e-6)
    assert two["scores"] == pytest.approx(calibrated("a goal", orders(LABELS, 2)), abs=1e-6)
    assert told["scores"] == pytest.approx(calibrated("a goal", [LABELS], described), abs=1e-6)
    assert empty["scores"] == pytest.approx(calibrated("a goal", [()]), abs=1e-6)


def test_a_row_says_whether_its_scores_are_calibrated(fake_runtime: Runtime, going_on: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    own, taken_off = (ClassifyBody(input="a goal", labels=LABELS, calibrated=one) for one in (False, True))
    answers = classified(going_on, own, taken_off)
    assert answers[0]["scores"] == pytest.approx(dict(zip(LABELS, np.exp(held_of((), "a goal")), strict=True)), abs=1e-6)
    assert answers[1]["scores"] == pytest.approx(calibrated("a goal", [()]), abs=1e-6)
    monkeypatch.setattr(fake_runtime.decoder(MODEL).engine.asking, "goes_on", False)
    answers = classified(fake_runtime, own, taken_off)
    assert answers[0]["scores"] == pytest.approx(known("a goal"), abs=1e-6)
    assert answers[1]["scores"] == pytest.approx(calibrated("a goal", [LABELS]), abs=1e-6)


def test_texts_that_say_nothing_are_asked_about_once_a_list_and_call_and_for_its_tenant(
    going_on: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    batcher, calls = going_on.decoder(MODEL).batcher, list[list[tuple[object, str]]]()
    submit = batcher.submit

    def noted(rows: Sequence[DecoderRow], ticket: Ticket) -> Any:
        calls.append([(row.tenant, bytes(row.ids.tolist()).decode()) for row in rows])
        return submit(rows, ticket)

    monkeypatch.setattr(batcher, "submit", noted)
    asks = [ClassifyBody(input=text, labels=labels) for text in "abc" for labels in (LABELS, ["good", "bad"])]
    for tenant in ("one", "another"):
        run(going_on, "classify", MODEL, asks, Ticket(tenant=tenant))
    for tenant, call in zip(("one", "another"), calls, strict=True):
        assert {own for own, _ in call} == {tenant}
        assert sorted(text for _, text in call) == sorted("".join(question((), {}, one)) for one in [*NOTHING, *"abc"] * 2)


def test_where_nothing_is_held_of_a_text_that_says_nothing_the_rows_of_its_list_fail(
    going_on: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_decoder, "NOTHING", ("", MARKS["nan"]))
    spoilt, fine = classified(going_on, *(ClassifyBody(input="a", labels=LABELS, calibrated=one) for one in (None, False)))
    assert spoilt == "non_finite_output"
    assert fine["scores"] == pytest.approx(dict(zip(LABELS, np.exp(held_of((), "a")), strict=True)), abs=1e-6)


def test_descriptions_stand_with_their_labels(fake_runtime: Runtime) -> None:
    described = {"art": "painting,\nsculpture"}
    [answer] = classified(fake_runtime, ClassifyBody(input="a goal", labels=LABELS, descriptions=described))
    assert answer["scores"] == pytest.approx(known("a goal", descriptions=described), abs=1e-6)
    assert "- art: painting, sculpture\n- art history\n" in question(LABELS, described, "x")[0]


def test_a_logprob_may_count_by_its_tokens(fake_runtime: Runtime) -> None:
    [answer] = classified(fake_runtime, ClassifyBody(input="a goal", labels=LABELS, length_normalised=True))
    sums = expected_logprobs("".join(question(LABELS, {}, "a goal")), 4)
    lengths = np.array([5, 8, 4, 11])  # "art" with the end that tells it from the longer label
    assert list(answer["scores"].values()) == pytest.approx(np.exp(over_labels(sums / lengths)), abs=1e-6)


def test_a_long_text_is_cut_refused_or_read_in_windows_and_the_labels_are_whole(fake_runtime: Runtime) -> None:
    text = "é0123456789" * 1_000
    cut, refused, mean, highest = classified(
        fake_runtime,
        ClassifyBody(input=text, labels=LABELS),
        ClassifyBody(input=text, labels=LABELS, on_long="refuse"),
        ClassifyBody(input=text, labels=LABELS, on_long="chunk"),
        ClassifyBody(input=text, labels=LABELS, on_long="chunk", pool="max", stride=0),
    )
    deepest = len("art history") - 1
    fixed = len("".join(question(LABELS, {}, "")).encode())
    assert refused == "input_too_long"
    assert cut["truncated"] is True
    assert MAX_TOKENS - deepest - 2 < cut["usage"]["input_tokens"] <= MAX_TOKENS - deepest
    assert (mean["truncated"], mean["chunks"], mean["pool"]) == (False, 4, "mean")
    assert highest["usage"]["input_tokens"] == len(text.encode()) + highest["chunks"] * fixed, "each character is in one window"


def test_a_cut_text_is_asked_about_as_its_beginning(fake_runtime: Runtime) -> None:
    [cut] = classified(fake_runtime, ClassifyBody(input="x" * 10_000, labels=LABELS))
    room = cut["usage"]["input_tokens"] - len("".join(question(LABELS, {}, "")).encode())
    [whole] = classified(fake_runtime, ClassifyBody(input="x" * room, labels=LABELS))
    assert (whole["scores"], whole["truncated"]) == (cut["scores"], False)


def test_labels_that_leave_no_room_for_a_text_fail_its_rows_and_not_their_neighbours(fake_runtime: Runtime) -> None:
    crowd = [f"label number {number}" for number in range(300)]
    described = {"sport": "x" * MAX_TOKENS}
    answers = classified(
        fake_runtime,
        ClassifyBody(input="a", labels=crowd),
        ClassifyBody(input="a", labels=LABELS, descriptions=described),
        ClassifyBody(input="a", labels=crowd[:100]),
    )
    assert answers[:2] == ["labels_too_long"] * 2
    assert len(answers[2]["scores"]) == 100


def test_labels_that_are_the_same_tokens_are_told(fake_runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    asking = fake_runtime.decoder(MODEL).engine.asking
    assert asking is not None
    answer = asking.answer
    monkeypatch.setattr(asking, "answer", lambda text: answer(text.lower()))
    alike, fine = classified(
        fake_runtime, ClassifyBody(input="a", labels=["Turkey", "turkey", "goose"]), ClassifyBody(input="a", labels=LABELS)
    )
    assert alike == "labels_alike"
    assert fine["label"] in LABELS
    monkeypatch.setattr(asking, "answer", lambda text: answer(text[1:]))
    assert classified(fake_runtime, ClassifyBody(input="a", labels=["字", "ab"])) == ["labels_alike"], "one is no tokens"


def test_long_labels_are_refused_before_anything_is_made_of_them(fake_runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    asking, read = fake_runtime.decoder(MODEL).engine.asking, list[str]()
    assert asking is not None
    answer = asking.answer
    monkeypatch.setattr(asking, "answer", lambda text: read.append(text) or answer(text))  # type: ignore[func-returns-value]
    monkeypatch.setattr(by_decoder, "Choices", None)
    crowd = [str(number) * 500 for number in range(10)]
    assert classified(fake_runtime, ClassifyBody(input="a", labels=crowd)) == ["labels_too_long"]
    assert len(read) == 9, "the ninth leaves no room, and the tenth is not read"


def test_lists_that_rows_bring_are_made_once_where_they_hold_the_same(fake_runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    asking, read = fake_runtime.decoder(MODEL).engine.asking, list[str]()
    assert asking is not None
    answer = asking.answer
    monkeypatch.setattr(asking, "answer", lambda text: read.append(text) or answer(text))  # type: ignore[func-returns-value]
    described: list[dict[str, str] | None] = [None, {"art": "x"}, {"art": "x"}, {"art": "y"}, None]
    asks = [ClassifyBody(input="a", labels=[*LABELS], descriptions=one) for one in described]
    answers = classified(fake_runtime, *asks)
    assert read == LABELS * 3
    for one, found in zip(described, answers, strict=True):
        assert found["scores"] == pytest.approx(known("a", descriptions=one), abs=1e-6)


def test_a_row_of_more_windows_and_orders_than_it_may_ask_is_refused_before_they_are_made(fake_runtime: Runtime) -> None:
    text, labels = "x" * 100_000, [f"label {number}" for number in range(64)]
    asked = ClassifyBody(input=text, labels=labels, on_long="chunk", rotations=64)
    few = ClassifyBody(input=text, labels=labels, on_long="chunk", rotations=1)
    refused, answered = classified(fake_runtime, asked, few)
    assert refused == "too_many_windows"
    assert answered["chunks"] > 20


def test_a_list_that_leaves_little_room_is_not_read_over_and_over_for_a_text_in_windows(fake_runtime: Runtime) -> None:
    crowd = [f"label number {number}" for number in range(190)]
    refused, cut = classified(
        fake_runtime, *(ClassifyBody(input="x" * 2_000, labels=crowd, on_long=on_long) for on_long in ("chunk", "truncate"))
    )
    assert refused == "labels_too_long"
    assert cut["truncated"] is True


def test_nothing_more_is_read_once_its_job_has_stopped(fake_runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    asking, stop, read = fake_runtime.decoder(MODEL).engine.asking, Event(), list[str]()
    assert asking is not None
    ask = asking.question

    def question_then_stop(text: str, lead: str) -> Any:
        read.append(text)
        if "goal" in text:
            stop.set()
        return ask(text, lead)

    monkeypatch.setattr(asking, "question", question_then_stop)
    for asks in (
        [ClassifyBody(input="a goal", labels=LABELS), ClassifyBody(input="a vote", labels=LABELS)],
        [ClassifyBody(input="x" * 5_000 + "goal" + "x" * 9_000, labels=LABELS, on_long="chunk")],
    ):
        stop.clear()
        with pytest.raises(Stopped):
            run(fake_runtime, "classify", MODEL, asks, Ticket(stop))
    assert not [text for text in read if "a vote" in text]
    assert len(read) < 8, "the empty text twice, a text, the whole, and windows up to the one that stopped it"


def test_prompts_that_begin_alike_follow_each_other_and_each_row_gets_its_own_answers(
    fake_runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    batcher, begun = fake_runtime.decoder(MODEL).batcher, list[str]()
    submit = batcher.submit

    def noted(rows: Sequence[DecoderRow], ticket: Ticket) -> Any:
        begun.extend(bytes(row.ids.tolist()).decode().partition("- ")[2].partition("\n")[0] for row in rows)
        return submit(rows, ticket)

    monkeypatch.setattr(batcher, "submit", noted)
    other = ["good", "bad"]
    asks = [ClassifyBody(input=text, labels=labels, rotations=2) for text in "abc" for labels in (LABELS, other)]
    answers = classified(fake_runtime, *asks)
    firsts = [first for first, _ in itertools.groupby(begun)]
    assert sorted(firsts) == ["art", "bad", "good", "sport"], "each in one run"
    for asked, answer in zip(asks, answers, strict=True):
        assert answer["scores"] == pytest.approx(known(asked.input or "", asked.labels or [], rotations=2), abs=1e-6)


def test_a_row_that_the_model_cannot_do_fails_alone(fake_runtime: Runtime) -> None:
    spoilt, broken, fine = classified(
        fake_runtime, *(ClassifyBody(input=text, labels=LABELS, rotations=2) for text in (MARKS["nan"], MARKS["error"], "fine"))
    )
    assert (spoilt, broken) == ("non_finite_output", "engine_error")
    assert fine["scores"] == pytest.approx(known("fine", rotations=2), abs=1e-6)


def test_labels_of_any_writing_are_asked_for(fake_runtime: Runtime) -> None:
    labels = ["ünï\ncödé", "🥇", "<end_of_turn>", "{}", "%s", "日本 語"]
    [answer] = classified(fake_runtime, ClassifyBody(input="a", labels=labels))
    assert list(answer["scores"]) == labels
    assert answer["scores"] == pytest.approx(known("a", labels), abs=1e-6)


def test_what_prompts_share_is_shared_within_their_tenant(fake_runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    batcher, tenants = fake_runtime.decoder(MODEL).batcher, list[object]()
    submit = batcher.submit

    def noted(rows: Sequence[DecoderRow], ticket: Ticket) -> Any:
        tenants.extend(row.tenant for row in rows)
        return submit(rows, ticket)

    monkeypatch.setattr(batcher, "submit", noted)
    for tenant in ("one", "another", None):
        run(fake_runtime, "classify", MODEL, [ClassifyBody(input="a", labels=LABELS)], Ticket(tenant=tenant))
    assert tenants == ["one", "another", None]


def test_windows_are_pooled_over_the_labels(fake_runtime: Runtime) -> None:
    """What is scored is known but for a number that the labels of one prompt share: it must not decide which window counts."""
    asking = fake_runtime.decoder(MODEL).engine.asking
    assert asking is not None
    own = LabelList(asking, MAX_TOKENS, ClassifyBody(labels=["a", "b"]))
    first, second = np.log([0.9, 0.1]), np.log([0.4, 0.6])
    found = own.logprobs([Scored(first - 50.0), Scored(second + 7.0)])
    assert found == pytest.approx(np.array([first, second]))
