"""How often a decoder's label is right: by the default, and by what rows may ask instead.

``python -m tests.benchmarks.decoder_labels [--model MODEL] [--home FOLDER] [--texts N] [--corpus NAME]`` asks about the beginnings of some
texts of each corpus, with its labels in two orders. A share of right answers over N texts is off by some 1 / √N.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.corpora import Corpus, corpora
from tests.workers.asking import body_of, run
from workers.inference.runtime import Runtime
from workers.settings import WorkerSettings
from workers.tasks.classify.task import ClassifyBody

WORDS: Final = 40
HEADER_WORDS: Final = 20  # what follows a text's first blank line is the text, where it is as long: newsgroups stand in their headers
WAYS: Final[Mapping[str, dict[str, Any]]] = {
    "default": {},
    "uncalibrated": {"calibrated": False},
    "listed, calibrated": {"rotations": 1, "calibrated": True},
    "listed, uncalibrated": {"rotations": 1, "calibrated": False},
}


@dataclass(frozen=True, slots=True)
class Found:
    """``right``: the share of right answers. ``tokens`` and ``seconds``: of a text."""

    right: float
    tokens: float
    seconds: float


def beginning(text: str) -> str:
    body = text.partition("\n\n")[2]
    return " ".join((body if len(body.split()) > HEADER_WORDS else text).split()[:WORDS])


def measure(runtime: Runtime, model: str, corpus: Corpus, labels: list[str], texts: int, way: dict[str, Any]) -> Found:
    named = dict(zip(sorted(set(corpus.labels)), corpus.fitting, strict=True))
    drawn = random.Random(0).sample(range(len(corpus.texts)), texts)
    asks = [ClassifyBody(input=beginning(corpus.texts[at]), labels=labels, **way) for at in drawn]
    began = time.perf_counter()
    rows = run(runtime, "classify", model, asks)[1]
    seconds = time.perf_counter() - began
    answers = [body_of(row) for row in rows]
    right = sum(answer["label"] == named[corpus.labels[at]] for answer, at in zip(answers, drawn, strict=True))
    tokens = sum(answer["usage"]["input_tokens"] for answer in answers)
    return Found(right / texts, tokens / texts, seconds / texts)


def main() -> int:
    parser = argparse.ArgumentParser(description="How often a decoder's label is right.")
    parser.add_argument("--model", default="gemma3-270m")
    parser.add_argument("--home", type=Path, default=Path(tempfile.gettempdir()) / "textmill-labels", help="where the model lies")
    parser.add_argument("--texts", type=int, default=100)
    parser.add_argument("--corpus", action="append", help="one of those that have names for their labels; all by default")
    asked = parser.parse_args()
    runtime = Runtime(WorkerSettings(home=asked.home, lanes=1, dtype="exact"))
    try:
        runtime.warm(asked.model)
        print("| corpus | asked | right, in two orders | tokens | ms |\n|---|---|---|---|---|")
        for corpus in corpora():
            if not corpus.fitting or (asked.corpus and corpus.name not in asked.corpus):
                continue
            half = len(corpus.fitting) // 2
            for name, way in WAYS.items():
                turned = [*corpus.fitting[half:], *corpus.fitting[:half]]
                one, other = (measure(runtime, asked.model, corpus, ls, asked.texts, way) for ls in ([*corpus.fitting], turned))
                ms = 500 * (one.seconds + other.seconds)
                print(f"| {corpus.name} | {name} | {one.right:.2f}, {other.right:.2f} | {one.tokens:.0f} | {ms:.0f} |", flush=True)
    finally:
        runtime.close(drain=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
