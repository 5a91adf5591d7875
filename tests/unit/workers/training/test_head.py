import json

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load, save

from db.errors import TextmillError
from workers.arrays import Vectors
from workers.models.zero_shot import softmax
from workers.training.head import fit_head, load_head


def clouds(labels: list[str], per_label: int, spread: float = 0.4) -> tuple[Vectors, list[str]]:
    """Unit vectors around a centre of each label's own."""
    rng = np.random.default_rng(7)
    centres = rng.normal(size=(len(labels), 16))
    points = np.concatenate([centre + spread * rng.normal(size=(per_label, 16)) for centre in centres]).astype(np.float32)
    return points / np.linalg.norm(points, axis=1, keepdims=True), [label for label in labels for _ in range(per_label)]


@pytest.mark.parametrize("labels", [["yes", "no"], ["a", "b", "c", "d"]])
def test_a_head_learns_its_examples_and_scores_sum_to_one(labels: list[str]) -> None:
    vectors, named = clouds(labels, 20)
    trained = fit_head(vectors, named)
    head = load_head(trained.weights, trained.card)
    probabilities = softmax(head.logits(vectors))
    assert probabilities.shape == (len(named), len(labels))
    assert probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert np.mean([head.labels[best] == label for best, label in zip(probabilities.argmax(axis=1), named, strict=True)]) > 0.95


def test_two_labels_score_as_scikit_learn_scores_them() -> None:
    from sklearn.linear_model import LogisticRegression

    from workers.training.head import REGULARISATION_C

    vectors, named = clouds(["no", "yes"], 20, spread=1.0)
    trained = fit_head(vectors, named)
    expected: NDArray[np.float64] = LogisticRegression(C=REGULARISATION_C, max_iter=1000).fit(vectors, named).predict_proba(vectors)
    assert softmax(load_head(trained.weights, trained.card).logits(vectors)) == pytest.approx(expected, abs=1e-4)


def test_the_same_examples_give_the_same_bytes_and_version() -> None:
    vectors, named = clouds(["a", "b", "c"], 12)
    first, second = fit_head(vectors, named), fit_head(vectors.copy(), list(named))
    assert (first.weights, first.version, first.card) == (second.weights, second.version, second.card)


def test_the_card_tells_the_examples_and_the_cross_validated_quality_and_is_json() -> None:
    vectors, named = clouds(["b", "a"], 10)
    card = json.loads(json.dumps(fit_head(vectors, named).card))
    assert card["labels"] == ["a", "b"]
    assert card["examples"] == {"a": 10, "b": 10}
    assert card["metrics"]["folds"] == 5
    assert 0.9 <= card["metrics"]["accuracy"] <= 1
    assert 0.9 <= card["metrics"]["macro_f1"] <= 1


def test_folds_are_as_many_as_the_rarest_label_has_examples() -> None:
    vectors, named = clouds(["a", "b"], 10)
    keep = [*range(10), 10, 11]
    card = fit_head(vectors[keep], [named[index] for index in keep]).card
    assert card["metrics"] == {"folds": 2, "accuracy": pytest.approx(1, abs=0.3), "macro_f1": pytest.approx(1, abs=0.6)}


def test_weights_hold_numbers_and_no_label_name() -> None:
    vectors, named = clouds(["secret-one", "secret-two", "secret-three"], 5)
    weights = fit_head(vectors, named).weights
    assert set(load(weights)) == {"coefficients", "intercepts"}
    assert b"secret" not in weights


def test_one_label_or_one_example_is_too_few() -> None:
    vectors, named = clouds(["a", "b"], 3)
    with pytest.raises(TextmillError) as caught:
        fit_head(vectors[:3], named[:3])
    assert caught.value.code == "too_few_labels"
    with pytest.raises(TextmillError) as caught:
        fit_head(vectors[:4], named[:4])
    assert caught.value.code == "too_few_examples"


def test_a_damaged_head_is_refused() -> None:
    vectors, named = clouds(["a", "b"], 3)
    trained = fit_head(vectors, named)
    for weights, card in (
        (trained.weights[:20], trained.card),
        (save({"other": np.zeros(2, np.float32)}), trained.card),
        (trained.weights, {}),
        (trained.weights, {"labels": ["a", "b", "c"]}),
    ):
        with pytest.raises(TextmillError) as caught:
            load_head(weights, card)
        assert caught.value.code == "invalid_head"
