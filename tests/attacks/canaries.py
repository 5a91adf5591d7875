"""Canaries, and the search that finds one in any form in which a program may have left it. Written for the sweep alone; tested itself."""

import base64
import binascii
import contextlib
import json
import secrets
import string
import urllib.parse
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ALPHABET = string.ascii_letters + string.digits
LENGTH = 24
FRAGMENT = 8  # between two control bytes, Postgres' own compression keeps up to eight letters together
MAX_INFLATED_BYTES = 1 << 20
ZLIB_HEADERS = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
GZIP_HEADER = b"\x1f\x8b\x08"


def new_canary() -> str:
    """24 random letters and digits: 142 bits, so it is nowhere by chance; nor, in practice, is a fragment (48 bits)."""
    return "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))


@dataclass(frozen=True)
class Hit:
    """``canary`` is the name of what was planted, ``form`` how it was written, ``place`` where."""

    canary: str
    form: str
    place: str


class Search:
    """Looks for all of ``canaries`` (name → value)."""

    def __init__(self, canaries: Mapping[str, str]) -> None:
        self._needles: dict[int, list[tuple[str, str, bytes]]] = {}  # by their first four bytes
        for name, value in canaries.items():
            for form, needle in forms(value):
                self._needles.setdefault(int.from_bytes(needle[:4], "little"), []).append((name, form, needle))
        self._quads = np.array(list(self._needles), dtype=np.uint32)
        self._pairs = np.zeros(1 << 16, dtype=bool)
        self._pairs[self._quads & 0xFFFF] = True
        self._plain = [(name, value.encode()) for name, value in canaries.items()]
        self.searched_bytes = 0

    def in_bytes(self, data: bytes, place: str) -> set[Hit]:
        self.searched_bytes += len(data)
        data = data.rstrip(b"\0")  # the unused rest of a log segment
        hits = {Hit(name, form, place) for name, form in self._found_in(data)}
        for inflated in inflations(data):
            hits |= {Hit(name, "compressed", place) for name, needle in self._plain if needle in inflated}
        return hits

    def _found_in(self, data: bytes) -> Iterator[tuple[str, str]]:
        """Hundreds of needles in one pass: where two bytes may begin one, then where four do, then by comparison."""
        letters = np.frombuffer(data, dtype=np.uint8)
        if len(letters) < FRAGMENT:
            return
        at = np.flatnonzero(self._pairs[letters[:-3] | letters[1:-2].astype(np.uint16) << 8])
        quads = np.bitwise_or.reduce([letters[at + offset].astype(np.uint32) << (8 * offset) for offset in range(4)])
        likely = np.isin(quads, self._quads)
        for position, quad in zip(at[likely].tolist(), quads[likely].tolist(), strict=True):
            for name, form, needle in self._needles[quad]:
                if data.startswith(needle, position):
                    yield name, form

    def in_folder(self, folder: Path, *, without: Iterable[str] = ()) -> set[Hit]:
        """Names and bytes of everything below; ``without`` names entries directly below that are left out."""
        left_out = {folder / name for name in without}
        hits: set[Hit] = set()
        for path in sorted(folder.rglob("*")):
            if left_out & {path, *path.parents}:
                continue
            place = str(path.relative_to(folder))
            hits |= self.in_bytes(place.encode(), f"name of {place}")
            if path.is_file() and not path.is_symlink():
                try:
                    hits |= self.in_bytes(path.read_bytes(), place)
                except FileNotFoundError:  # a log segment that was recycled meanwhile
                    continue
        return hits


def forms(value: str) -> Iterator[tuple[str, bytes]]:
    """How ``value`` may stand in bytes."""
    raw = value.encode()
    for at in range(FRAGMENT):  # wherever a group of letters begins, one of these is whole
        yield "text", raw[at : at + FRAGMENT]
    yield "utf-16", value.encode("utf-16-le")
    yield "utf-16", value.encode("utf-16-be")
    yield "utf-32", value.encode("utf-32-le")
    yield "json escapes", "".join(f"\\u{ord(letter):04x}" for letter in value).encode()
    yield "json escapes", "".join(f"\\u{ord(letter):04X}" for letter in value).encode()
    yield "url escapes", "".join(f"%{byte:02X}" for byte in raw).encode()
    yield "url escapes", "".join(f"%{byte:02x}" for byte in raw).encode()
    yield "hex", binascii.hexlify(raw)
    yield "hex", binascii.hexlify(raw).upper()
    yield "octal escapes", "".join(f"\\{byte:03o}" for byte in raw).encode()
    for shift in range(3):  # where it lies in the triples of base64 is not known
        whole = raw[(-shift) % 3 :]
        encoded = base64.b64encode(whole[: len(whole) // 3 * 3])
        yield "base64", encoded
        yield "base64", encoded.translate(bytes.maketrans(b"+/", b"-_"))
    yield "reversed", raw[::-1]


def inflations(data: bytes) -> Iterator[bytes]:
    """What every zlib or gzip stream in ``data`` holds, wherever it begins."""
    for header in ZLIB_HEADERS:
        yield from _inflated(data, header, zlib.MAX_WBITS)
    yield from _inflated(data, GZIP_HEADER, zlib.MAX_WBITS | 16)


def _inflated(data: bytes, header: bytes, window_bits: int) -> Iterator[bytes]:
    at = data.find(header)
    while at != -1:
        with contextlib.suppress(zlib.error):
            yield zlib.decompressobj(window_bits).decompress(data[at : at + MAX_INFLATED_BYTES], MAX_INFLATED_BYTES)
        at = data.find(header, at + 1)


def written_forms(value: str) -> dict[str, bytes]:
    """One example of each form as a program writes it, with something around: what the search must find."""
    said = f"before {value} after"
    return {
        "text": said.encode(),
        "utf-16": said.encode("utf-16"),
        "utf-32": said.encode("utf-32-le"),
        "json": json.dumps({"text": said + '\n"é'}).encode(),
        "json escapes": "".join(f"\\u{ord(letter):04x}" for letter in said).encode(),
        "url": urllib.parse.quote_plus(said).encode(),
        "url escapes": "".join(f"%{byte:02X}" for byte in said.encode()).encode(),
        "hex": said.encode().hex().encode(),
        "bytea": b"\\x" + said.encode().hex().upper().encode(),
        "octal escapes": "".join(f"\\{byte:03o}" for byte in said.encode()).encode(),
        "base64 at 0": base64.b64encode(value.encode()),
        "base64 at 1": base64.b64encode(b"x" + value.encode() + b"y"),
        "base64 at 2": base64.urlsafe_b64encode(b"xy" + value.encode()),
        "zlib": b"block" + zlib.compress(said.encode() * 3) + b"block",
        "gzip": b"block" + _gzip(said.encode()) + b"block",
        "broken by control bytes": b"\x00".join(said.encode()[at : at + 8] for at in range(0, len(said), 8)),
        "reversed": said.encode()[::-1],
    }


def _gzip(data: bytes) -> bytes:
    made = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    return made.compress(data) + made.flush()
