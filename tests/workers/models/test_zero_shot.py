import numpy as np
import pytest

from tests.workers.asking import classify
from tests.workers.runtimes import Articles
from workers.arrays import Vectors
from workers.inference.runtime import Runtime
from workers.models.zero_shot import TEMPLATES, LabelSpace, logits, probabilities, unlike


def test_five_label_names_are_enough_to_sort_the_news(minilm_runtime: Runtime, articles: Articles, article_vectors: Vectors) -> None:
    """On all 2,225 whole articles it is 85.2 %; these are the leads of 200. The bare names reach 78 %."""
    labels = sorted(set(articles.labels))
    encoder = minilm_runtime.encoder("minilm-l6-v2")
    meant = LabelSpace().prototypes(None, labels, TEMPLATES, lambda texts: encoder.answer(texts).vectors)
    named = [labels[best] for best in probabilities(article_vectors, meant).argmax(axis=1)]
    assert np.mean([name == label for name, label in zip(named, articles.labels, strict=True)]) >= 0.82


@pytest.mark.parametrize(
    ("labels", "fits"),
    [
        (("business", "entertainment", "politics", "sport", "technology"), True),
        (("refund", "login", "delivery"), False),
        (("refund", "login", "delivery", "invoice", "complaint"), False),
        (("baking", "grilling", "salads", "soups"), False),
    ],
)
def test_a_quarter_of_the_news_is_near_none_of_labels_that_do_not_fit(
    minilm_runtime: Runtime, article_vectors: Vectors, labels: tuple[str, ...], fits: bool
) -> None:
    encoder = minilm_runtime.encoder("minilm-l6-v2")
    meant = LabelSpace().prototypes(None, labels, TEMPLATES, lambda texts: encoder.answer(texts).vectors)
    assert (unlike(logits(article_vectors, meant)) / len(article_vectors) < 0.25) == fits


def test_the_text_of_the_page_is_near_none_of_its_labels(minilm_runtime: Runtime) -> None:
    """Its score is 0.9: a score compares the labels with each other."""
    encoder = minilm_runtime.encoder("minilm-l6-v2")
    meant = LabelSpace().prototypes(None, ["refund", "login", "delivery"], TEMPLATES, lambda texts: encoder.answer(texts).vectors)
    vectors = encoder.answer(["The striker scored twice in the second half."]).vectors
    assert unlike(logits(vectors, meant)) == 1
    assert probabilities(vectors, meant).max() < 1


@pytest.mark.parametrize(("templates", "counted"), [(None, 1), (["a customer asks for {}"], 0)])
def test_a_run_counts_texts_that_are_near_none_under_the_sentences_that_were_measured(
    minilm_runtime: Runtime, templates: list[str] | None, counted: int
) -> None:
    texts = ["The striker scored twice in the second half.", "Where is my refund? I was told to wait for it."]
    ran, _ = classify(minilm_runtime, "minilm-l6-v2", texts, [["refund", "login", "delivery"]] * 2, [templates] * 2)
    assert ran.share.unlike_rows == counted


def test_a_run_counts_texts_in_languages_that_the_model_was_not_trained_on(minilm_runtime: Runtime) -> None:
    texts = ["Ich warte seit zwei Wochen auf die Lieferung und habe noch nichts gehört.", "Where is my refund? I was told to wait for it."]
    ran, _ = classify(minilm_runtime, "minilm-l6-v2", texts, [["refund", "login"]] * 2, [None] * 2)
    assert ran.share.foreign_rows == 1
