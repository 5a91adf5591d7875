"""What a file's name and first bytes tell of its format."""

from pathlib import PurePosixPath
from typing import Final

FORMATS: Final = ("jsonl", "csv", "parquet", "txt")
_OF_SUFFIX: Final = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".txt": "txt",
}
_TABBED: Final = frozenset({".tsv", ".tab"})
_COMPRESSED: Final = frozenset({".gz", ".gzip", ".zst", ".zstd"})
_SPREADSHEETS: Final = frozenset({".xlsx", ".xlsm", ".xlsb", ".xls", ".ods", ".numbers"})
_ARCHIVES: Final = frozenset({".zip", ".7z", ".rar", ".tar", ".tgz", ".bz2", ".xz", ".br", ".lz4"})

_CODECS: Final = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\x50\x2a\x4d\x18": "zstd"}  # the last is what pzstd begins with
COMPRESSED: Final = tuple(_CODECS)


def format_of(name: str) -> str | None:
    """Of the file within, where the name says that it is compressed; None where it tells nothing."""
    return _OF_SUFFIX.get(_suffix(name))


def is_tabbed(name: str) -> bool:
    return _suffix(name) in _TABBED


def is_spreadsheet(name: str) -> bool:
    return _suffix(name) in _SPREADSHEETS


def is_archive(name: str) -> bool:
    """An archive, or a compression that is not read."""
    return _suffix(name) in _ARCHIVES


def codec_of(head: bytes) -> str | None:
    """By a file's first four bytes; None where it is not compressed in one of the two ways."""
    return next((codec for magic, codec in _CODECS.items() if head.startswith(magic)), None)


def _suffix(name: str) -> str:
    path = PurePosixPath(name.lower())
    return PurePosixPath(path.stem).suffix if path.suffix in _COMPRESSED else path.suffix
