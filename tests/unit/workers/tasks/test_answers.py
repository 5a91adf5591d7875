import base64
import json
import math
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.tasks import answers

JOB = UUID(int=7)
WHOLE = answers.Extent(False, 1, "mean")


LABELS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20), min_size=1, max_size=8, unique=True)


def test_a_classification_has_label_scores_and_version() -> None:
    form = answers.ClassificationForm(model="minilm-l6-v2", model_version="v1", labels=("sport", "politics"))
    body = json.loads(
        form.fill(
            answer=answers.answer_id("cls_", JOB, 3), winner=0, scores=[0.75, 0.25], extent=answers.Extent(True, 1, "mean"), input_tokens=12
        )
    )
    assert body == {
        "id": f"cls_{JOB.hex}00000003",
        "object": "classification",
        "model": "minilm-l6-v2",
        "model_version": "v1",
        "label": "sport",
        "scores": {"sport": 0.75, "politics": 0.25},
        "truncated": True,
        "usage": {"input_tokens": 12, "output_tokens": 0, "total_tokens": 12},
    }


def test_an_answer_about_windows_says_how_many_and_how_they_were_pooled() -> None:
    form = answers.ClassificationForm(model="m", model_version="v", labels=("x", "y"))
    extent = answers.Extent(False, 7, "max")
    body = json.loads(form.fill(answer="a", winner=0, scores=[0.5, 0.5], extent=extent, input_tokens=1))
    assert (body["truncated"], body["chunks"], body["pool"]) == (False, 7, "max")
    vector = np.ones(2, np.float32)
    body = json.loads(answers.embedding(model="m", model_version="v", vector=vector, as_base64=True, extent=extent, input_tokens=1))
    assert (body["truncated"], body["chunks"], body["pool"]) == (False, 7, "max")


@given(labels=LABELS, model=st.text(st.characters(exclude_categories=["Cs"])), data=st.data())
def test_any_label_and_any_score_read_back_as_they_went_in(labels: list[str], model: str, data: st.DataObject) -> None:
    scores = data.draw(st.lists(st.floats(0, 1), min_size=len(labels), max_size=len(labels)))
    winner = data.draw(st.integers(0, len(labels) - 1))
    form = answers.ClassificationForm(model=model, model_version=model, labels=labels)
    body = json.loads(form.fill(answer="cls_1", winner=winner, scores=scores, extent=WHOLE, input_tokens=3))
    assert (body["label"], body["model"], body["model_version"]) == (labels[winner], model, model)
    assert body["scores"] == {label: round(score, answers.SCORE_DIGITS) for label, score in zip(labels, scores, strict=True)}
    assert list(body["scores"]) == labels


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_never_an_answer(score: float) -> None:
    form = answers.ClassificationForm(model="m", model_version="v", labels=("x", "y"))
    with pytest.raises(answers.NotFinite):
        form.fill(answer="a", winner=0, scores=[score, 0.5], extent=WHOLE, input_tokens=1)


def test_an_embedding_as_base64_is_little_endian_float32() -> None:
    vector = np.array([0.6, -0.8], np.float32)
    body = json.loads(answers.embedding(model="m", model_version="v", vector=vector, as_base64=True, extent=WHOLE, input_tokens=4))
    assert np.array_equal(np.frombuffer(base64.b64decode(body["data"][0]["embedding"]), "<f4"), vector)
    assert body["usage"] == {"prompt_tokens": 4, "total_tokens": 4}


def test_an_embedding_as_numbers_is_the_same_vector() -> None:
    vector = np.array([0.6, -0.8], np.float32)
    body = json.loads(answers.embedding(model="m", model_version="v", vector=vector, as_base64=False, extent=WHOLE, input_tokens=4))
    assert np.array_equal(np.array(body["data"][0]["embedding"], np.float32), vector)


def test_an_embedding_that_is_no_number_is_never_an_answer() -> None:
    with pytest.raises(answers.NotFinite):
        answers.embedding(
            model="m", model_version="v", vector=np.array([np.nan], np.float32), as_base64=False, extent=WHOLE, input_tokens=1
        )


def test_a_chat_answer_parses_as_the_stock_clients_type() -> None:
    from openai.types import Completion
    from openai.types.chat import ChatCompletion

    common = {"model": "m", "model_version": "v", "created": 1, "finish_reason": "stop", "input_tokens": 3, "output_tokens": 2}
    chat = ChatCompletion.model_validate_json(answers.chat_completion(answer="chatcmpl_1", text="hi", **common))  # type: ignore[arg-type]
    assert chat.choices[0].message.content == "hi"
    assert chat.usage is not None
    assert chat.usage.total_tokens == 5
    text = Completion.model_validate_json(answers.text_completion(answer="cmpl_1", text="hi", **common))  # type: ignore[arg-type]
    assert text.choices[0].text == "hi"
