import numpy as np

from tests.workers.runtimes import Articles
from workers.arrays import Vectors
from workers.inference.runtime import Runtime
from workers.models.zero_shot import TEMPLATES, LabelSpace, probabilities


def test_five_label_names_are_enough_to_sort_the_news(minilm_runtime: Runtime, articles: Articles, article_vectors: Vectors) -> None:
    """On all 2,225 whole articles it is 85.2 %; these are the leads of 200. The bare names reach 78 %."""
    labels = sorted(set(articles.labels))
    encoder = minilm_runtime.encoder("minilm-l6-v2")
    meant = LabelSpace().prototypes(labels, TEMPLATES, lambda texts: encoder.answer(texts).vectors)
    named = [labels[best] for best in probabilities(article_vectors, meant).argmax(axis=1)]
    assert np.mean([name == label for name, label in zip(named, articles.labels, strict=True)]) >= 0.82
