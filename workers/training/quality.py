"""How good a head is and how sure that is: what heads that were fitted without an example say to it, over and over.

Stratified folds, many of them and drawn anew several times where examples are few, so that each head has nearly all of them. What a fold
leaves out weighs on the others of its label: of two labels with eight examples each, one that lacks a held-out example would otherwise be
the rarer one, and a weak head would name the other label (31 % said where 75 % was true).
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from workers.arrays import Vectors
from workers.training.regression import Targets, fit

MOST_FOLDS: Final = 10
MOST_REPEATS: Final = 10
FITTED_ROWS: Final = 1_000  # about how many examples are held out in all: with more of them there are fewer repeats, and then fewer folds
LARGE_FOLDS: Final = 5
SURE_DEVIATIONS: Final = 1.96  # of the normal distribution, between which 95 % lie
BLOCK_LOGITS: Final = 1 << 20  # are looked at together, in fp64: of 50,000 examples of 500 labels all at once took 600 MiB
CONFUSIONS: Final = 10  # pairs of labels that are told, the most frequent ones
# What is known of the temperature before any example: few examples tell it badly, and those that are told apart without a fault not at all.
# Over four corpora it is from 1/11 to 1/2, smaller with fewer examples: see tests/benchmarks/heads.py.
USUAL_TEMPERATURE: Final = 1 / 5
TEMPERATURE_SPREAD: Final = 0.5  # of its natural logarithm
LEAST_TEMPERATURE: Final = 1 / 50


@dataclass(frozen=True, slots=True)
class HeldOut:
    """``logits`` [n, K] of heads that had not seen the example, ``targets`` [n]; n is ``repeats`` times the examples."""

    logits: Vectors
    targets: Targets
    folds: int
    repeats: int

    @property
    def examples(self) -> int:
        return len(self.targets) // self.repeats

    def blocks(self) -> Iterator[tuple[NDArray[np.float64], Targets]]:
        """All logits and targets, so many at a time."""
        rows = max(1, BLOCK_LOGITS // self.logits.shape[1])
        for first in range(0, len(self.targets), rows):
            yield self.logits[first : first + rows].astype(np.float64), self.targets[first : first + rows]


def hold_out(embeddings: Vectors, targets: Targets, classes: int) -> HeldOut:
    """``targets``: at least two of each of ``range(classes)``."""
    from sklearn.model_selection import StratifiedKFold

    counts = np.bincount(targets, minlength=classes)
    folds = min(int(counts.max()), MOST_FOLDS if len(targets) <= FITTED_ROWS else LARGE_FOLDS)
    repeats = max(1, min(MOST_REPEATS, FITTED_ROWS // len(targets)))
    logits, held = np.empty((repeats * len(targets), classes), np.float32), np.empty(repeats * len(targets), np.int64)
    filled = 0
    for repeat in range(repeats):
        drawn = StratifiedKFold(folds, shuffle=True, random_state=repeat)  # type: ignore[no-untyped-call]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a label of fewer examples than folds is in some folds only
            parts = list(drawn.split(embeddings, targets))  # type: ignore[no-untyped-call]
        for seen, unseen in parts:
            left = np.bincount(targets[seen], minlength=classes)
            coefficients, intercepts = fit(embeddings[seen], targets[seen], classes, (counts / left)[targets[seen]])
            place = slice(filled, filled := filled + len(unseen))
            logits[place] = embeddings[unseen] @ coefficients.T + intercepts
            held[place] = targets[unseen]
    return HeldOut(logits, held, folds, repeats)


def temperature_of(held: HeldOut) -> float:
    """What the logits are divided by so that a score is how often such an answer is right (Guo et al., ICML 2017: one number, by the log
    loss, which changes no answer), here on held-out examples and with what is usual weighing in."""
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        surprise = sum(_surprise(logits, targets, np.exp(log_temperature)) for logits, targets in held.blocks())
        unusual = (log_temperature - np.log(USUAL_TEMPERATURE)) / TEMPERATURE_SPREAD
        return float(surprise / held.repeats + unusual**2 / 2)

    best = minimize_scalar(loss, bounds=(np.log(LEAST_TEMPERATURE), 0.0), method="bounded")  # type: ignore[no-untyped-call]
    return float(np.exp(best.x))


def quality_of(held: HeldOut, names: list[str], temperature: float) -> dict[str, object]:
    """What the card says of it; shares are from 0 to 1. The interval is Wilson's, of as many examples as there are."""
    from sklearn.metrics import precision_recall_fscore_support

    predicted = held.logits.argmax(axis=1)
    right = predicted == held.targets
    precision, recall, f1, _ = precision_recall_fscore_support(held.targets, predicted, labels=range(len(names)), zero_division=0.0)
    low, high = wilson(float(right.mean()), held.examples)
    return {
        "folds": held.folds,
        "repeats": held.repeats,
        "accuracy": _rounded(right.mean()),
        "accuracy_low": _rounded(low),
        "accuracy_high": _rounded(high),
        "macro_f1": _rounded(f1.mean()),
        "mean_score": _rounded(sum(_best_scores(logits / temperature).sum() for logits, _ in held.blocks()) / len(held.targets)),
        "per_label": {
            name: {"precision": _rounded(precision[at]), "recall": _rounded(recall[at]), "f1": _rounded(f1[at])}
            for at, name in enumerate(names)
        },
        "confusions": _confusions(held.targets, predicted, names),
    }


def wilson(share: float, count: int) -> tuple[float, float]:
    """Between what a share of ``count`` is, 95 % sure (Wilson, JASA 1927): it does not end in 0 or 1 where all or none are right."""
    spread = SURE_DEVIATIONS**2 / count
    middle = share + spread / 2
    wide = float(np.sqrt(spread * share * (1 - share) + spread**2 / 4))
    return (middle - wide) / (1 + spread), min(1.0, (middle + wide) / (1 + spread))


def _confusions(targets: Targets, predicted: NDArray[np.intp], names: list[str]) -> list[dict[str, object]]:
    """Which label's examples were taken for which, the most frequent first, and what share of that label's it were."""
    counts = np.bincount(targets, minlength=len(names))
    wrong = predicted != targets
    pairs, found = np.unique(np.stack([targets[wrong], predicted[wrong]]), axis=1, return_counts=True)
    order = np.argsort(-found, kind="stable")[:CONFUSIONS]
    return [
        {"label": names[pairs[0, at]], "taken_for": names[pairs[1, at]], "share": _rounded(found[at] / counts[pairs[0, at]])}
        for at in order.tolist()
    ]


def _surprise(logits: NDArray[np.float64], targets: Targets, temperature: float) -> float:
    """The log loss of all of them together."""
    logits /= temperature
    logits -= logits.max(axis=1, keepdims=True)
    own = logits[np.arange(len(targets)), targets].sum()
    np.exp(logits, out=logits)
    return float(np.log(logits.sum(axis=1)).sum() - own)


def _best_scores(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    best: NDArray[np.float64] = 1 / np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)
    return best


def _rounded(share: float) -> float:
    return round(float(share), 4)
