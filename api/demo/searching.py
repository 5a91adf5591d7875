"""Looks for plaintext where it must not be: in the bytes of Postgres' folder, in logs, and in everything Redis holds."""

import base64
import binascii
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from redis import Redis

CHUNK_BYTES: Final = 4 * 1024 * 1024


@dataclass(slots=True)
class Search:
    """``places``: files, or keys in Redis, that were read. A phrase that was found is counted, not told."""

    places: int = 0
    size_bytes: int = 0
    hits: int = 0

    def add(self, other: "Search") -> None:
        self.places += other.places
        self.size_bytes += other.size_bytes
        self.hits += other.hits


def search_files(folder: Path, phrases: Sequence[bytes], *, skip: Iterable[str] = ()) -> Search:
    """Every byte of every regular file below the folder; ``skip`` names folders directly below it."""
    found = Search()
    skipped = {str(folder / name) for name in skip}
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if os.path.join(place, name) not in skipped]
        for name in names:
            path = Path(place, name)
            if path.is_symlink() or not path.is_file():
                continue
            try:
                found.add(_search_file(path, phrases))
            except FileNotFoundError:
                continue  # Postgres recycles its files while we read
    return found


def _search_file(path: Path, phrases: Sequence[bytes]) -> Search:
    overlap = max(map(len, phrases)) - 1
    found = Search(places=1)
    tail = b""
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK_BYTES):
            found.size_bytes += len(chunk)
            window = tail + chunk
            # The longest phrase does not fit into the tail; a shorter one may be counted twice, which leaves none at none.
            found.hits += sum(window.count(phrase) for phrase in phrases)
            tail = window[-overlap:] if overlap else b""
    return found


def search_redis(client: "Redis", phrases: Sequence[bytes]) -> Search:
    """Names and values of all keys of the database; what looks like base64 (Celery's message bodies) is looked into as well."""
    found = Search()
    for key in client.scan_iter(count=500):
        found.places += 1
        for value in (key, *_values(client, key)):
            found.size_bytes += len(value)
            found.hits += sum(text.count(phrase) for text in (value, *_unwrapped(value)) for phrase in phrases)
    return found


def _values(client: "Redis", key: bytes) -> Iterator[bytes]:
    """A key may be gone by now: then there is nothing to read."""
    read: Any = client  # the client's types allow for decoded answers, which ours does not give
    match read.type(key):
        case b"string":
            yield read.get(key) or b""
        case b"list":
            yield from read.lrange(key, 0, -1)
        case b"set":
            yield from read.sscan_iter(key)
        case b"zset":
            yield from (member for member, _ in read.zscan_iter(key))
        case b"hash":
            for name, value in read.hscan_iter(key):
                yield from (name, value)
        case b"stream":
            for _, fields in read.xrange(key):
                yield from (part for pair in fields.items() for part in pair)


def _unwrapped(value: bytes) -> Iterator[bytes]:
    for part in value.split(b'"'):
        if len(part) >= 16:
            try:
                yield base64.b64decode(part, validate=True)
            except binascii.Error:
                continue
