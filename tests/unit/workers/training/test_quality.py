"""What is held out: that it tells what a head does with texts it has not seen, and how true its scores become."""

import tracemalloc

import numpy as np
import pytest

from tests.unit.workers.training.test_head import clouds
from workers.training import quality
from workers.training.quality import USUAL_TEMPERATURE, HeldOut, hold_out, quality_of, temperature_of


def test_of_labels_without_a_difference_half_is_right_and_not_less() -> None:
    """A head that lacks the held-out example has fewer of its label: without weights it names the other one, in 80 % of the cases here."""
    rng = np.random.default_rng(3)
    said = []
    for _ in range(8):
        vectors = rng.normal(size=(16, 32)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        held = hold_out(vectors, np.array([0, 1] * 8), 2)
        said.append((held.logits.argmax(axis=1) == held.targets).mean())
    assert np.mean(said) == pytest.approx(0.5, abs=0.1)


def test_a_score_becomes_how_often_it_is_right() -> None:
    """Logits that are 4 times too small, of two labels of which the first is true as often as it says."""
    rng = np.random.default_rng(5)
    true = rng.normal(scale=2.0, size=4_000)
    targets = (rng.random(4_000) < 1 / (1 + np.exp(-true))).astype(np.int64)
    logits = np.stack([np.zeros(4_000), true / 4], axis=1).astype(np.float32)
    held = HeldOut(logits, targets, folds=10, repeats=1)
    temperature = temperature_of(held)
    assert temperature == pytest.approx(1 / 4, rel=0.1)
    said = quality_of(held, ["a", "b"], temperature)
    assert said["mean_score"] == pytest.approx(said["accuracy"], abs=0.02)


def test_few_examples_without_a_fault_do_not_make_scores_certain() -> None:
    vectors, named = clouds(["a", "b"], 3, spread=0.01)
    held = hold_out(vectors, np.array([int(name == "b") for name in named]), 2)
    assert (held.logits.argmax(axis=1) == held.targets).all()
    assert temperature_of(held) > USUAL_TEMPERATURE / 5


def test_the_interval_is_as_wide_as_the_examples_are_few() -> None:
    few, many = (
        quality_of(HeldOut(np.eye(2, dtype=np.float32)[[0, 1] * n], np.array([0, 1] * n), 2, 1), ["a", "b"], 0.2) for n in (4, 400)
    )
    assert few["accuracy"] == many["accuracy"] == 1.0
    assert few["accuracy_low"] == pytest.approx(0.676, abs=0.001)
    assert many["accuracy_low"] > 0.99  # type: ignore[operator]


def test_confusions_are_told_with_the_share_of_the_label_that_was_taken_for_another() -> None:
    logits = np.eye(3, dtype=np.float32)[[0, 1, 1, 1, 2, 2, 2, 0]]
    said = quality_of(HeldOut(logits, np.array([0, 0, 0, 1, 1, 2, 2, 2]), 2, 1), ["x", "y", "z"], 1.0)
    assert said["confusions"] == [
        {"label": "x", "taken_for": "y", "share": 0.6667},
        {"label": "y", "taken_for": "z", "share": 0.5},
        {"label": "z", "taken_for": "x", "share": 0.3333},
    ]
    assert said["per_label"]["x"] == {"precision": 0.5, "recall": 0.3333, "f1": 0.4}  # type: ignore[index]


def many(examples: int, labels: int) -> HeldOut:
    rng = np.random.default_rng(7)
    return HeldOut(rng.normal(size=(examples, labels)).astype(np.float32), rng.integers(0, labels, examples), folds=5, repeats=1)


def test_many_examples_of_many_labels_are_looked_at_in_blocks() -> None:
    """All at once they were held three times over, in fp64."""
    held = many(16_000, 500)
    once = held.logits.size * 8
    tracemalloc.start()
    try:
        quality_of(held, [str(label) for label in range(500)], temperature_of(held))
        assert tracemalloc.get_traced_memory()[1] < once
    finally:
        tracemalloc.stop()


def test_blocks_change_nothing_of_what_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    held, names = many(300, 7), [str(label) for label in range(7)]
    whole = temperature_of(held)
    said = quality_of(held, names, whole)
    monkeypatch.setattr(quality, "BLOCK_LOGITS", 50)
    assert temperature_of(held) == pytest.approx(whole, rel=1e-6)
    assert quality_of(held, names, whole) == said
