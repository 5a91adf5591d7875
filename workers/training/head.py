"""A classification head: multinomial logistic regression over unit embeddings, stored as safetensors, never as a pickle.

Fitting is deterministic: the same embeddings and labels give the same bytes.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from db.errors import TextmillError
from workers.arrays import Vectors
from workers.training.quality import hold_out, quality_of, temperature_of
from workers.training.regression import REGULARISATION_C, fit

MIN_EXAMPLES_PER_LABEL = 2
# Of a head: for each example its embedding and its logits, some three times over in fp32. 50,000 examples of 500 labels are 45 million.
MOST_NUMBERS: Final = 1 << 26
USUAL_WIDTH: Final = 400  # of an embedding


@dataclass(frozen=True, slots=True)
class TrainedHead:
    """`card` holds the label names and the measured quality, `weights` the matrix only. Both are a tenant's: seal them. `left_out`: labels
    with too few examples, which the head does not know."""

    weights: bytes
    card: dict[str, object]
    left_out: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class LoadedHead:
    """`coefficients` [K, d], `intercepts` [K], in the order of `labels`."""

    labels: tuple[str, ...]
    coefficients: Vectors
    intercepts: Vectors

    def logits(self, embeddings: Vectors) -> Vectors:
        """[n, K]; their softmax are the probabilities."""
        made: Vectors = embeddings @ self.coefficients.T + self.intercepts
        return made


def is_too_large(labels: Sequence[str]) -> bool:
    """Whether fitting a head to an example of each of these labels would take more memory than a worker should need."""
    return len(labels) * (len(set(labels)) + USUAL_WIDTH) > MOST_NUMBERS


def load_head(weights: bytes, card: Mapping[str, object]) -> LoadedHead:
    """Raises TextmillError "invalid_head" where the two are damaged or do not belong together."""
    try:
        tensors = load(weights)
        coefficients, intercepts, labels = tensors["coefficients"], tensors["intercepts"], card["labels"]
    except (SafetensorError, KeyError):
        raise TextmillError("The stored head is damaged; train it again.", code="invalid_head") from None
    if not isinstance(labels, list) or not len(labels) == len(coefficients) == len(intercepts):
        raise TextmillError("The stored head's labels and weights differ in number; train it again.", code="invalid_head")
    return LoadedHead(tuple(map(str, labels)), coefficients, intercepts)


def fit_head(embeddings: Vectors, labels: Sequence[str]) -> TrainedHead:
    """``embeddings`` [n, d], one label name each. A label with one example is left out: it is in the card's ``left_out``, with its count.
    Raises TextmillError where there are too few labels or examples.

    The temperature is in the weights: a row costs no more for it.
    """
    counts = Counter(labels)
    names = sorted(name for name, count in counts.items() if count >= MIN_EXAMPLES_PER_LABEL)
    if len(counts) < 2:
        raise TextmillError("A head needs examples of at least two labels.", code="too_few_labels")
    if len(names) < 2:
        raise TextmillError(f"A head needs at least {MIN_EXAMPLES_PER_LABEL} examples of at least two labels.", code="too_few_examples")
    position = {name: index for index, name in enumerate(names)}
    kept = [place for place, label in enumerate(labels) if label in position]
    own = embeddings if len(kept) == len(labels) else embeddings[kept]
    targets = np.array([position[labels[place]] for place in kept])
    held = hold_out(own, targets, len(names))
    temperature = temperature_of(held)
    coefficients, intercepts = fit(own, targets, len(names))
    # safetensors writes an array's memory as it lies, and scikit-learn's coefficients lie column by column.
    scaled = [np.ascontiguousarray(part / np.float32(temperature)) for part in (coefficients, intercepts)]
    weights = save({"coefficients": scaled[0], "intercepts": scaled[1]})
    card: dict[str, object] = {
        "kind": "logistic",
        "labels": names,
        "examples": {name: counts[name] for name in names},
        "left_out": {name: counts[name] for name in sorted(counts) if name not in position},
        "metrics": quality_of(held, names, temperature),
        "regularisation_c": REGULARISATION_C,
        "temperature": round(temperature, 6),
    }
    return TrainedHead(weights, card, frozenset(counts.keys() - position.keys()))
