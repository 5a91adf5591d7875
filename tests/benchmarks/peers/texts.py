"""The texts that all run over: C3 (lengths log-normal), C4 (heavy tail) and the BBC articles themselves. One seed, one set of texts.

C3 and C4 are stretches of BBC articles, cut between words so that they hold the drawn number of tokens. Random words would be as long but
about nothing, and their nearest label a toss-up: agreement with fp32 could not be checked on them.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tokenizers import Tokenizer

from api.demo.corpus import Article, load_articles

SPECIAL_TOKENS: Final = 2  # [CLS] and [SEP], counted as every system counts them
MAX_TOKENS: Final = 256  # of the model: what is longer is cut there by all
C3_DOCS: Final = 4000
C3_MEAN_TOKENS: Final = 50.0
C3_SIGMA: Final = 0.6  # of the logarithm: one text in a hundred has more than 165 tokens
C4_DOCS: Final = 4000
C4_SHORT_TOKENS: Final = 16
C4_LONG_TOKENS: Final = 512
C4_LONG_SHARE: Final = 0.05
SEED: Final = 20


@dataclass(frozen=True, slots=True)
class Workload:
    """``id`` as in the goals table; ``about`` says what it is in a line of the report."""

    id: str
    about: str
    texts: tuple[str, ...]


def workloads(tokenizer_file: Path, *, seed: int = SEED) -> list[Workload]:
    articles = load_articles()
    cutter = Cutter(articles, tokenizer_file)
    mixed = lognormal_lengths(random.Random(f"{seed} C3"), C3_DOCS, C3_MEAN_TOKENS, C3_SIGMA, MAX_TOKENS)
    tailed = heavy_tail_lengths(random.Random(f"{seed} C4"), C4_DOCS, C4_SHORT_TOKENS, C4_LONG_TOKENS, C4_LONG_SHARE)
    shuffled = random.Random(f"{seed} BBC").sample(articles, len(articles))  # the corpus comes label by label
    return [
        Workload(
            "C3", f"{C3_DOCS:,} texts, log-normal, mean {C3_MEAN_TOKENS:.0f} tokens", cutter.cut(mixed, random.Random(f"{seed} C3 cuts"))
        ),
        Workload(
            "C4",
            f"{C4_DOCS:,} texts, {1 - C4_LONG_SHARE:.0%} of {C4_SHORT_TOKENS} tokens, the rest of {C4_LONG_TOKENS} (cut at {MAX_TOKENS})",
            cutter.cut(tailed, random.Random(f"{seed} C4 cuts")),
        ),
        Workload("BBC", f"{len(articles):,} news articles (cut at {MAX_TOKENS} tokens)", tuple(article.text for article in shuffled)),
    ]


def lognormal_lengths(chance: random.Random, count: int, mean: float, sigma: float, most: int) -> list[int]:
    """Tokens a text, special tokens counted, between 4 and ``most``."""
    mu = math.log(mean) - sigma**2 / 2  # the mean of a log-normal is exp(mu + sigma² / 2)
    return [min(most, max(4, round(chance.lognormvariate(mu, sigma)))) for _ in range(count)]


def heavy_tail_lengths(chance: random.Random, count: int, short: int, long: int, long_share: float) -> list[int]:
    """Exactly that share is long; where the long ones stand is drawn."""
    lengths = [long] * round(count * long_share)
    lengths += [short] * (count - len(lengths))
    chance.shuffle(lengths)
    return lengths


class Cutter:
    """Cuts stretches of a wanted number of tokens out of articles."""

    def __init__(self, articles: Sequence[Article], tokenizer_file: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(tokenizer_file))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._texts = [article.text for article in articles]
        encodings = self._tokenizer.encode_batch(self._texts, add_special_tokens=False)
        self._offsets = [encoding.offsets for encoding in encodings]
        # A stretch begins at the first token of a word: cut inside one, it would not tokenise to the same number.
        self._starts = [
            [at for at, word in enumerate(words) if at == 0 or word != words[at - 1]]
            for words in (encoding.word_ids for encoding in encodings)
        ]

    def cut(self, lengths: Sequence[int], chance: random.Random) -> tuple[str, ...]:
        """One text a length (special tokens counted); a token or two fewer or more where the end falls inside a word."""
        sizes = [len(offsets) for offsets in self._offsets]
        fitting: dict[int, list[int]] = {}
        texts = []
        for length in lengths:
            wanted = max(1, length - SPECIAL_TOKENS)
            if wanted not in fitting:
                fitting[wanted] = [number for number, size in enumerate(sizes) if size >= wanted]
            number = chance.choice(fitting[wanted])
            starts = self._starts[number]
            first = starts[chance.randrange(sum(1 for start in starts if start + wanted <= sizes[number]))]
            offsets = self._offsets[number]
            texts.append(self._texts[number][offsets[first][0] : offsets[first + wanted - 1][1]])
        return tuple(texts)


def sample(texts: Sequence[str], count: int) -> list[int]:
    """Indices of ``count`` texts spread evenly over all of them, in order: what a peer too slow for all of them runs instead."""
    if count >= len(texts):
        return list(range(len(texts)))
    return [number * len(texts) // count for number in range(count)]
