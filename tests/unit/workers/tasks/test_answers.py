"""The answers of each task, in the shapes that clients read."""

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.queue.row import WorkRow
from tests.workers.asking import body_of, embed, generate, run, vector_in
from workers.arrays import Vectors
from workers.engines.encoders.windows import Pieces
from workers.engines.fake import vector_of
from workers.inference.encoder import Answered
from workers.inference.runtime import Runtime
from workers.models import registry
from workers.tasks.classify.running import SCORE_DIGITS, Form, pooled_logits
from workers.tasks.classify.task import ClassifyBody
from workers.tasks.embed.task import EmbedBody
from workers.tasks.task import Group

JOB = UUID(int=7)
LABELS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20), min_size=1, max_size=8, unique=True)


def answered(*, windows: int = 1, truncated: bool = False, tokens: int = 1, pool: str | None = None) -> Answered:
    """One text."""
    pieces = Pieces.singles(1) if windows == 1 else Pieces.split([windows], ["max" if pool == "max" else "mean"])
    return Answered([], pieces, [tokens], [truncated], np.zeros((windows, 2), np.float32))


def filled(form: Form, about: Answered, scores: Sequence[float], winner: int = 0, *, ask: ClassifyBody | None = None) -> WorkRow:
    row = WorkRow(3, ask=ask or ClassifyBody())
    form.fill(row, about, 0, scores, winner)
    return row


def test_a_classification_has_label_scores_and_version() -> None:
    form = Form(JOB, model="minilm-l6-v2", model_version="v1", labels=("sport", "politics"))
    row = filled(form, answered(truncated=True, tokens=12), [0.75, 0.25])
    assert body_of(row) == {
        "id": f"cls_{JOB.hex}00000003",
        "object": "classification",
        "model": "minilm-l6-v2",
        "model_version": "v1",
        "label": "sport",
        "scores": {"sport": 0.75, "politics": 0.25},
        "truncated": True,
        "usage": {"input_tokens": 12, "output_tokens": 0, "total_tokens": 12},
    }
    assert (row.input_tokens, row.output_tokens, row.code) == (12, 0, None)


def test_an_answer_about_windows_says_how_many_and_how_they_were_pooled(fake_runtime: Runtime) -> None:
    form = Form(JOB, model="m", model_version="v", labels=("x", "y"))
    body = body_of(filled(form, answered(windows=7, pool="max"), [0.5, 0.5], ask=ClassifyBody(on_long="chunk", pool="max")))
    assert (body["truncated"], body["chunks"], body["pool"]) == (False, 7, "max")
    _, [row] = run(
        fake_runtime, "embed", "fake-encoder", [EmbedBody(input="x" * 10_000, on_long="chunk", pool="max", encoding_format="base64")]
    )
    body = body_of(row)
    assert (body["truncated"], body["chunks"], body["pool"]) == (False, 3, "max")


@given(labels=LABELS, model=st.text(st.characters(exclude_categories=["Cs"])), data=st.data())
def test_any_label_and_any_score_read_back_as_they_went_in(labels: list[str], model: str, data: st.DataObject) -> None:
    scores = data.draw(st.lists(st.floats(0, 1), min_size=len(labels), max_size=len(labels)))
    winner = data.draw(st.integers(0, len(labels) - 1))
    body = body_of(filled(Form(JOB, model=model, model_version=model, labels=labels), answered(tokens=3), scores, winner))
    assert (body["label"], body["model"], body["model_version"]) == (labels[winner], model, model)
    assert body["scores"] == {label: round(score, SCORE_DIGITS) for label, score in zip(labels, scores, strict=True)}
    assert list(body["scores"]) == labels


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_never_an_answer(score: float) -> None:
    row = filled(Form(JOB, model="m", model_version="v", labels=("x", "y")), answered(tokens=5), [score, 0.5])
    assert (row.code, row.payload, row.input_tokens) == ("non_finite_output", None, 0)


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_scores_of_windows_are_of_their_pooled_logits(pool: str) -> None:
    about = answered(windows=2, pool=pool)
    about.vectors = np.array([[1.0, 3.0], [2.0, 0.0]], np.float32)

    def doubled(vectors: Vectors) -> Vectors:
        return vectors * 2

    pooled = np.array([3.0, 3.0]) if pool == "mean" else np.array([4.0, 6.0])
    assert pooled_logits(about, [0], doubled)[0] == pytest.approx(pooled)


def test_an_embedding_as_base64_is_little_endian_float32(fake_runtime: Runtime) -> None:
    _, [row] = run(fake_runtime, "embed", "fake-encoder", [EmbedBody(input="four", encoding_format="base64")])
    body = body_of(row)
    assert np.array_equal(np.frombuffer(base64.b64decode(body["data"][0]["embedding"]), "<f4"), vector_of("four"))
    assert body["usage"] == {"prompt_tokens": 4, "total_tokens": 4}


def test_an_embedding_as_numbers_is_the_same_vector(fake_runtime: Runtime) -> None:
    _, [row] = embed(fake_runtime, "fake-encoder", ["four"])
    assert vector_in(row) == pytest.approx(vector_of("four"), abs=1e-8)


def test_a_text_may_come_as_the_models_own_tokens(fake_runtime: Runtime) -> None:
    asks = [EmbedBody(input=[102, 111]), EmbedBody(input=[[102, 111], [300]]), EmbedBody(input=[97] * 4_097)]  # type: ignore[list-item]
    _, [own, wild, long] = run(fake_runtime, "embed", "fake-encoder", asks)
    assert vector_in(own) == pytest.approx(vector_of("fo"), abs=1e-8)
    assert body_of(own)["usage"] == {"prompt_tokens": 2, "total_tokens": 2}
    assert (wild.code, long.code) == (
        "invalid_field:input:tokens of the model's own tokenizer, with its marks at both ends",
        "input_too_long:input:4096",
    )


@pytest.mark.parametrize(
    ("shorter", "wanted", "does"),
    [(None, 8, False), (None, 32, True), ((), 8, True), ((), 33, False), ((8, 16), 16, True), ((8, 16), 9, False), ((8, 16), 32, True)],
)
def test_a_vector_is_cut_where_the_model_was_trained_for_it(
    fake_runtime: Runtime, shorter: tuple[int, ...] | None, wanted: int, does: bool
) -> None:
    group = Group("fake-encoder", replace(registry.get("fake-encoder"), shorter=shorter))
    _, [row] = run(fake_runtime, "embed", "fake-encoder", [EmbedBody(input="four", dimensions=wanted)], group=group)
    assert (row.code is None) is does
    if does:
        cut = vector_of("four")[:wanted]
        assert vector_in(row) == pytest.approx(cut / np.linalg.norm(cut), abs=1e-7)
    else:
        assert str(row.code).startswith("invalid_field:dimensions:")


def test_answers_to_prompts_parse_as_the_stock_clients_types(fake_runtime: Runtime) -> None:
    from openai.types import Completion
    from openai.types.chat import ChatCompletion

    [chat] = generate(fake_runtime, [{"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}])
    [text] = generate(fake_runtime, [{"prompt": "once", "max_tokens": 2}], "/v1/completions")
    spoken = ChatCompletion.model_validate_json(chat.payload or b"")
    assert spoken.choices[0].message.content
    assert spoken.usage is not None
    assert spoken.usage.total_tokens == len("hello") + 2
    assert (spoken.object, spoken.id[:9]) == ("chat.completion", "chatcmpl_")
    written = Completion.model_validate_json(text.payload or b"")
    assert written.choices[0].text
    assert (written.object, written.id[:5]) == ("text_completion", "cmpl_")
    assert json.loads(text.payload or b"")["model_version"] == "fake-decoder@1"
