"""Reads the head of a GGUF file: its metadata, and where each tensor lies.

The `gguf` package's own reader makes numpy views of each of Gemma's 262,144 vocabulary strings, which takes ten seconds; this one takes
half a second. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, version 3, little-endian.
"""

import struct
from dataclasses import dataclass

Value = str | int | float | bool | list["Value"]

_STRING, _ARRAY = 8, 9
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
DEFAULT_ALIGNMENT = 32


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """`shape` is rows first (GGUF writes it the other way round); `kind` is ggml's number of the quantisation; `offset` from file start."""

    shape: tuple[int, ...]
    kind: int
    offset: int


@dataclass(frozen=True, slots=True)
class GgufFile:
    metadata: dict[str, Value]
    tensors: dict[str, StoredTensor]


def read_head(data: bytes) -> GgufFile:
    """Raises ValueError where it is no GGUF of version 3, struct.error where it is cut short."""
    reader = _Reader(data)
    if reader.take(4) != b"GGUF" or reader.scalar("<I") != 3:
        raise ValueError("Not a GGUF file of version 3.")
    tensor_count, value_count = reader.scalar("<Q"), reader.scalar("<Q")
    metadata = {reader.string(): reader.value(int(reader.scalar("<I"))) for _ in range(int(value_count))}
    found = []
    for _ in range(int(tensor_count)):
        name = reader.string()
        shape = tuple(int(reader.scalar("<Q")) for _ in range(int(reader.scalar("<I"))))
        found.append((name, shape[::-1], int(reader.scalar("<I")), int(reader.scalar("<Q"))))
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    assert isinstance(alignment, int)
    start = -(-reader.at // alignment) * alignment
    return GgufFile(metadata, {name: StoredTensor(shape, kind, start + offset) for name, shape, kind, offset in found})


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def take(self, size_bytes: int) -> bytes:
        taken = self._data[self.at : self.at + size_bytes]
        self.at += size_bytes
        return taken

    def scalar(self, layout: str) -> int | float | bool:
        value: int | float | bool = struct.unpack_from(layout, self._data, self.at)[0]
        self.at += struct.calcsize(layout)
        return value

    def string(self) -> str:
        return self.take(int(self.scalar("<Q"))).decode()

    def value(self, kind: int) -> Value:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            item_kind, count = int(self.scalar("<I")), int(self.scalar("<Q"))
            return [self.value(item_kind) for _ in range(count)]
        return self.scalar(_SCALARS[kind])
