import json

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load, save

from db.errors import TextmillError
from workers.arrays import Vectors
from workers.models.zero_shot import softmax
from workers.training.head import fit_head, is_too_large, load_head
from workers.training.regression import REGULARISATION_C


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


def test_two_labels_are_ranked_as_scikit_learn_ranks_them() -> None:
    """The temperature moves scores and no answer."""
    from sklearn.linear_model import LogisticRegression

    vectors, named = clouds(["no", "yes"], 20, spread=1.0)
    trained = fit_head(vectors, named)
    plain: NDArray[np.float64] = LogisticRegression(C=REGULARISATION_C, max_iter=1000).fit(vectors, named).decision_function(vectors)
    logits = load_head(trained.weights, trained.card).logits(vectors) * trained.card["temperature"]
    assert logits[:, 1] - logits[:, 0] == pytest.approx(plain, abs=1e-3)


def test_the_same_examples_give_the_same_bytes_and_version() -> None:
    vectors, named = clouds(["a", "b", "c"], 12)
    first, second = fit_head(vectors, named), fit_head(vectors.copy(), list(named))
    assert (first.weights, first.card) == (second.weights, second.card)


def test_the_card_tells_the_examples_and_the_cross_validated_quality_and_is_json() -> None:
    vectors, named = clouds(["b", "a"], 10)
    card = json.loads(json.dumps(fit_head(vectors, named).card))
    assert card["labels"] == ["a", "b"]
    assert card["examples"] == {"a": 10, "b": 10}
    said = card["metrics"]
    assert (said["folds"], said["repeats"]) == (10, 10)
    assert 0.9 <= said["accuracy_low"] <= said["accuracy"] <= said["accuracy_high"] <= 1 or said["accuracy_low"] > 0.8
    assert 0.9 <= said["macro_f1"] <= 1
    assert set(said["per_label"]) == {"a", "b"}


def test_a_label_with_one_example_is_left_out_with_its_count() -> None:
    vectors, named = clouds(["a", "b", "rare"], 10)
    keep = range(21)
    trained = fit_head(vectors[keep], [named[index] for index in keep])
    assert (trained.card["labels"], trained.card["left_out"], trained.left_out) == (["a", "b"], {"rare": 1}, {"rare"})


def test_a_rare_label_does_not_make_the_folds_few() -> None:
    vectors, named = clouds(["a", "b", "c"], 10)
    keep = [*range(20), 20, 21]
    said = fit_head(vectors[keep], [named[index] for index in keep]).card["metrics"]
    assert isinstance(said, dict)
    assert said["folds"] == 10
    assert said["accuracy"] > 0.8


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
        fit_head(vectors[2:4], named[2:4])
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


@pytest.mark.parametrize(
    ("examples", "labels", "too_large"), [(50_000, 500, False), (150_000, 5, False), (170_000, 5, True), (80_000, 500, True)]
)
def test_a_head_that_would_take_too_much_memory_is_told_apart(examples: int, labels: int, too_large: bool) -> None:
    assert is_too_large([str(place % labels) for place in range(examples)]) is too_large
