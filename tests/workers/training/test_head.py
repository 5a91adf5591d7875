import random

import numpy as np

from tests.workers.runtimes import Articles
from workers.arrays import Vectors
from workers.training.head import fit_head, load_head


def test_a_head_on_few_examples_beats_the_label_names(articles: Articles, article_vectors: Vectors) -> None:
    """20 examples a label on average. With 50, judged on all the rest of the corpus, it is 96.0 % (at least 95.4 in 20 draws)."""
    order = random.Random(0).sample(range(len(articles.texts)), len(articles.texts))
    examples, rest = order[: len(order) // 2], order[len(order) // 2 :]
    trained = fit_head(article_vectors[examples], [articles.labels[index] for index in examples])
    head = load_head(trained.weights, trained.card)
    predicted = [head.labels[best] for best in head.logits(article_vectors[rest]).argmax(axis=1)]
    assert np.mean([label == articles.labels[index] for label, index in zip(predicted, rest, strict=True)]) >= 0.92
