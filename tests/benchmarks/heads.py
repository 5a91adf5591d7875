"""How well trained heads label and how true their scores are: four corpora, 8 and 50 examples a label, ten draws of each.

``python -m tests.benchmarks.heads [--home FOLDER] [--report FILE.json]`` embeds the corpora once (minutes on a CPU) and ends with 1 where a
goal is missed. The expected calibration error (ECE) is over 15 bins of the best label's score, on the texts that were not drawn.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.corpora import corpora
from tests.benchmarks.embedded import embedded
from workers.arrays import Vectors
from workers.models.zero_shot import softmax
from workers.training.head import fit_head, load_head

BINS: Final = 15
DRAWS: Final = 10
GOALS: Final = {8: 0.10, 50: 0.05}  # examples a label: the mean ECE at most


@dataclass(frozen=True, slots=True)
class Drawn:
    """Of one head: its accuracy on unseen texts, the mean of its best scores, their ECE, and what its card says of the accuracy."""

    accuracy: float
    mean_score: float
    ece: float
    said: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Line:
    """Means over the draws, the worst ECE, and how often the accuracy was in the interval that the card gives."""

    corpus: str
    per_label: int
    accuracy: float
    mean_score: float
    ece: float
    worst_ece: float
    said: float
    covered: float

    @property
    def good(self) -> bool:
        return self.ece <= GOALS[self.per_label]


def expected_calibration_error(scores: Vectors, right: NDArray[np.bool_]) -> float:
    """Guo et al., ICML 2017. ``scores`` of the answers, ``right``: which of them are."""
    bins = np.minimum((scores * BINS).astype(int), BINS - 1)
    inside = [bins == place for place in range(BINS)]
    return float(sum(own.mean() * abs(right[own].mean() - scores[own].mean()) for own in inside if own.any()))


def measure(vectors: Vectors, labels: list[str], per_label: int, draw: int) -> Drawn:
    named = np.array(labels)
    order = np.random.default_rng(draw).permutation(len(labels))
    examples = np.concatenate([[at for at in order if named[at] == label][:per_label] for label in sorted(set(labels))])
    rest = np.setdiff1d(order, examples)
    trained = fit_head(vectors[examples], named[examples].tolist())
    scores = softmax(load_head(trained.weights, trained.card).logits(vectors[rest]))
    right = np.array(trained.card["labels"])[scores.argmax(axis=1)] == named[rest]
    said = trained.card["metrics"]
    assert isinstance(said, dict)
    best = scores.max(axis=1)
    return Drawn(
        accuracy=float(right.mean()),
        mean_score=float(best.mean()),
        ece=expected_calibration_error(best, right),
        said=said["accuracy"],
        low=said["accuracy_low"],
        high=said["accuracy_high"],
    )


def line(corpus: str, per_label: int, drawn: list[Drawn]) -> Line:
    return Line(
        corpus,
        per_label,
        accuracy=float(np.mean([one.accuracy for one in drawn])),
        mean_score=float(np.mean([one.mean_score for one in drawn])),
        ece=float(np.mean([one.ece for one in drawn])),
        worst_ece=max(one.ece for one in drawn),
        said=float(np.mean([one.said for one in drawn])),
        covered=float(np.mean([one.low <= one.accuracy <= one.high for one in drawn])),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="How well trained heads label, and how true their scores are.")
    parser.add_argument("--home", type=Path, default=Path(tempfile.gettempdir()) / "textmill-heads", help="where the model and vectors lie")
    parser.add_argument("--report", type=Path)
    asked = parser.parse_args()
    lines = []
    print("| corpus | examples a label | accuracy | mean score | ECE | worst ECE | goal | accuracy said | in the interval |")
    print("|---|---|---|---|---|---|---|---|---|")
    for corpus in corpora():
        vectors = embedded(corpus, asked.home).vectors
        for per_label, goal in GOALS.items():
            one = line(corpus.name, per_label, [measure(vectors, corpus.labels, per_label, draw) for draw in range(DRAWS)])
            lines.append(one)
            print(
                f"| {one.corpus} | {per_label} | {one.accuracy:.3f} | {one.mean_score:.3f} | {one.ece:.3f} | {one.worst_ece:.3f} |"
                f" ≤ {goal:.2f} | {one.said:.3f} | {one.covered:.0%} |",
                flush=True,
            )
    if asked.report is not None:
        asked.report.write_text(json.dumps([asdict(one) for one in lines], indent=1) + "\n")
    return 0 if all(one.good for one in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
