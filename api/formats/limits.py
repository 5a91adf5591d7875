"""What a file's reader is told: limits, and which columns hold what."""

from dataclasses import dataclass
from typing import Final

MAX_ID_CHARS: Final = 512
TEXT_COLUMNS: Final = ("text", "input", "prompt")
ID_COLUMNS: Final = ("id", "custom_id")
LABEL_COLUMNS: Final = ("label",)


@dataclass(frozen=True, slots=True)
class FileLimits:
    """``max_line_bytes`` bounds one line or record; ``max_parquet_bytes`` what is held for random access;
    ``max_unpacked_bytes`` what comes out of a Parquet file's columns; ``max_text_bytes`` what comes out of a compressed file of text."""

    max_line_bytes: int = 8 << 20
    max_parquet_bytes: int = 256 << 20
    max_unpacked_bytes: int = 1 << 30
    max_text_bytes: int = 4 << 30


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns or fields; None: the usual names are tried. ``label_required`` holds for training files."""

    text: str | None = None
    id: str | None = None
    label: str | None = None
    label_required: bool = False

    @property
    def text_names(self) -> tuple[str, ...]:
        return (self.text,) if self.text is not None else TEXT_COLUMNS

    @property
    def id_names(self) -> tuple[str, ...]:
        return (self.id,) if self.id is not None else ID_COLUMNS

    @property
    def label_names(self) -> tuple[str, ...]:
        return (self.label,) if self.label is not None else LABEL_COLUMNS
