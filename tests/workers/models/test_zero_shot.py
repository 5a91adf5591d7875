import numpy as np

from tests.workers.runtimes import Articles
from workers.inference.runtime import Classified, Runtime


def test_five_label_names_are_enough_to_sort_the_news(minilm_runtime: Runtime, articles: Articles) -> None:
    """On all 2,225 articles it is 85.2 %; these are 200 of them. The bare names reach 78 %."""
    labels = sorted(set(articles.labels))
    outcome = minilm_runtime.classify("minilm-l6-v2", articles.texts, [labels] * len(articles.texts), [None] * len(articles.texts))
    right = [isinstance(row, Classified) and row.label == label for row, label in zip(outcome.rows, articles.labels, strict=True)]
    assert np.mean(right) >= 0.82
