"""The vectors of a corpus, by the encoder that heads and labels use by default; kept in a folder, since making them takes minutes."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from tests.benchmarks.corpora import Corpus
from workers.arrays import Vectors
from workers.inference.runtime import Runtime
from workers.settings import WorkerSettings

MODEL: Final = "minilm-l6-v2"


@dataclass(frozen=True, slots=True)
class Embedded:
    """``vectors`` [texts, d]; ``unknown``: of each text, the share of its tokens that the model does not know."""

    vectors: Vectors
    unknown: Vectors


def embedded(corpus: Corpus, home: Path) -> Embedded:
    digest = hashlib.sha256("\0".join(corpus.texts).encode()).hexdigest()[:16]
    kept = home / f"{corpus.name}-{digest}.npz"
    if not kept.exists():
        home.mkdir(parents=True, exist_ok=True)
        made = embed(corpus.texts, home)
        np.savez(kept, vectors=made.vectors, unknown=made.unknown)
    with np.load(kept) as read:
        return Embedded(read["vectors"], read["unknown"])


def embed(texts: list[str], home: Path) -> Embedded:
    runtime = Runtime(WorkerSettings(home=home))
    try:
        encoder = runtime.encoder(MODEL)
        answered = encoder.answer(texts)
        unknown = [float(np.mean(ids == encoder.engine.unknown_id)) for ids in answered.sequences]
        return Embedded(answered.vectors, np.array(unknown, np.float32))
    finally:
        runtime.close(drain=False)
