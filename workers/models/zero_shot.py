"""Labels without examples: a text belongs to the label whose description its embedding is nearest to.

Each label is written into several templates; the unit mean of their embeddings is the label's prototype. Scores are a softmax over cosines.
Pure numpy: the caller brings the embeddings, this file says which texts to embed and what the vectors mean.
"""

import hashlib
import threading
from collections.abc import Callable, Hashable, Sequence
from operator import attrgetter

import numpy as np
from cachetools import LRUCache, cachedmethod

from workers.arrays import Vectors

# and noun phrases, which are weaker alone (a one-word text mixes all senses of the word). Chosen on the 2,225 BBC articles and their five
# label names, so expect a little less elsewhere: 85.2 % against 77.8 % for the bare name, 80 to 85 % for 32 single templates, and 84.1 %
# for an eight-template mean that includes the bare name.
TEMPLATES: tuple[str, ...] = (
    "This text is about {}.",
    "This is about {}.",
    "This text discusses {}.",
    "This text deals with {}.",
    "The author writes about {}.",
    "It concerns {}.",
)
# Cosines of a sentence encoder lie close together; dividing by this spreads them. On the same corpus 0.035 gives the lowest log loss, and a
# mean top score (0.84) that equals the accuracy. It changes scores only, never the label.
TEMPERATURE = 0.035
# A text whose nearest label is no nearer than this is near none of them. Of texts under labels that fit, 0 to 17 % are (BBC, newsgroups,
# Reuters, tales, tweets); under labels of another matter mostly 30 to 90 %: see the table in the page on labels. Of this encoder and the
# templates above; other models and sentences have other cosines.
UNLIKE_COSINE = 0.10
MEASURED_MODEL = "minilm-l6-v2"
CACHE_BYTES = 256 * 2**20


def written(labels: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Every label in every template, label by label. A brace inside a label is only text."""
    return [template.replace("{}", label) for label in labels for template in templates]


def prototypes(vectors: Vectors, templates: int) -> Vectors:
    """[K, d] unit vectors from the [K * templates, d] unit embeddings of `written`."""
    return unit(vectors.reshape(-1, templates, vectors.shape[1]).mean(axis=1))


def logits(embeddings: Vectors, label_prototypes: Vectors) -> Vectors:
    """[n, K]."""
    spread: Vectors = embeddings @ label_prototypes.T / np.float32(TEMPERATURE)
    return spread


def probabilities(embeddings: Vectors, label_prototypes: Vectors) -> Vectors:
    """[n, K], each row sums to 1."""
    return softmax(logits(embeddings, label_prototypes))


def unlike(label_logits: Vectors) -> int:
    """Of how many texts no label is near. ``label_logits`` [n, K], as `logits` makes them."""
    return int((label_logits.max(axis=1) < UNLIKE_COSINE / TEMPERATURE).sum())


def unit(vectors: Vectors) -> Vectors:
    """Each row scaled to length 1; a row of zeros stays."""
    scaled: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))
    return scaled


def softmax(values: Vectors) -> Vectors:
    """[n, K], each row sums to 1."""
    powers: Vectors = np.exp(values - values.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


class LabelSpace:
    """Prototypes by (tenant, labels, templates) of one model, least recently used out first once they pass `capacity_bytes`.

    One tenant's are no other's: how fast an answer comes must not tell that somebody else has just these labels. Keys are digests, so
    that a cache of prototypes is not also a list of what tenants call things. Calls that miss the same key at once wait for the first:
    5,000 labels in several templates are a minute's work on a small machine.
    """

    def __init__(self, capacity_bytes: int = CACHE_BYTES) -> None:
        # One that is larger than the whole is kept, by itself.
        self._made: LRUCache[tuple[Hashable, bytes], Vectors] = LRUCache(
            capacity_bytes, getsizeof=lambda made: min(made.nbytes, capacity_bytes)
        )
        self._changed = threading.Condition()

    @cachedmethod(
        attrgetter("_made"),
        key=lambda _, tenant, labels, templates, embed: (tenant, _digest(labels, templates)),
        condition=attrgetter("_changed"),
    )
    def prototypes(
        self, tenant: Hashable, labels: Sequence[str], templates: Sequence[str], embed: Callable[[list[str]], Vectors]
    ) -> Vectors:
        """[K, d]. `embed` is called at most once, on this thread; what it raises comes out here and is not kept: the next to ask tries."""
        return prototypes(embed(written(labels, templates)), len(templates))


def _digest(labels: Sequence[str], templates: Sequence[str]) -> bytes:
    """Injective over the two lists: counts and lengths go in with the strings."""
    digest = hashlib.blake2b(digest_size=32)
    for strings in (labels, templates):
        digest.update(len(strings).to_bytes(4))
        for text in strings:
            raw = text.encode()
            digest.update(len(raw).to_bytes(4) + raw)
    return digest.digest()
