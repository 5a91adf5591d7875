"""How a decoder is asked for a label: pure, and before any tokenising. What rows of a job have in common comes first, and is read once.

How well the wordings do: `tests.benchmarks.decoder_labels`.
"""

from collections.abc import Mapping, Sequence
from typing import Final

INSTRUCTION: Final = "Give the text the label that fits it best. Answer with the label alone."
NOTHING: Final = ("", "N/A", "[MASK]")  # as texts: T. Zhao et al., Calibrate Before Use (ICML 2021)


def written(text: str) -> str:
    """A label or a description in one line."""
    return " ".join(text.split())


def question(labels: Sequence[str], descriptions: Mapping[str, str], text: str) -> tuple[str, str]:
    """What is asked, and what an answer follows of a model that goes on with texts. Without ``labels`` such a model is shown no list."""
    if not labels:
        return f"Text: {text}", "\nCategory:"
    lines = [f"- {written(label)}" + (f": {written(descriptions[label])}" if label in descriptions else "") for label in labels]
    return "\n".join([INSTRUCTION, "", "Labels:", *lines, "", "Text:", text]), "\n\nLabel:"


def orders(labels: Sequence[str], rotations: int) -> list[list[str]]:
    """The list, and as many turned by equal parts as there are rotations, or labels."""
    count = min(rotations, len(labels))
    return [[*labels[first:], *labels[:first]] for first in (turn * len(labels) // count for turn in range(count))]
