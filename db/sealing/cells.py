"""Sealing: one value in, one opaque value out that opens only in the cell it was sealed for.

A sealed value is ``version (1) | algorithm (1) | key id (16) | salt (16) | commitment (16) | ciphertext and tag``.

Each value has its own key: one block of HKDF-Expand (RFC 5869, SHA-512) of the data key over the random salt gives 32 bytes of
AES-256-GCM key, 12 of nonce and 16 of key commitment. The commitment is compared before decryption, so that a ciphertext opens under one
key only (GCM alone does not promise that: Albertini et al., "How to Abuse and Fix Authenticated Encryption Without Key Commitment",
USENIX Security 2022).

The additional data bind the value to its cell: format version, algorithm, tenant, owner, key id, key epoch, column and row, each with its
length in front so that no two cells share an encoding.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from hmac import compare_digest
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from db.errors import SealError

VERSION: Final = 1
ALGORITHM_AES_256_GCM: Final = 1
ALGORITHM_NONE: Final = 0  # the canary sweep's control run; never opened unless that mode is on

_PREFIX_SIZE: Final = 2 + 16
_SALT_SIZE: Final = 16
_COMMITMENT_SIZE: Final = 16
_HEADER_SIZE: Final = _PREFIX_SIZE + _SALT_SIZE + _COMMITMENT_SIZE
_TAG_SIZE: Final = 16

# HKDF-Expand of up to 64 bytes is HMAC(key, info | 1): a data key is uniformly random already, so nothing needs extracting.
_FIRST_BLOCK: Final = b"\x01"
_VALUE_INFO: Final = b"textmill value 1"
_LOOKUP_INFO: Final = b"textmill lookup 1" + _FIRST_BLOCK
_BLOCK_SIZE: Final = 128  # of SHA-512
_INNER_PAD: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD: Final = bytes(byte ^ 0x5C for byte in range(256))


@dataclass(frozen=True, slots=True)
class KeyOwner:
    """Whose data key it is: the tenant's own (label sets, names), one file's, or one job's."""

    tenant_id: UUID
    kind: str
    owner_id: UUID


class Sealer:
    """Seals and opens values under one data key. Thread-safe; about 4 µs a value of 300 bytes."""

    def __init__(self, owner: KeyOwner, key_id: UUID, key_epoch: int, data_key: bytes, *, sealing_off: bool = False) -> None:
        self.owner = owner
        self.key_id = key_id
        self._derive = _Hmac(data_key)
        self._lookup = _Hmac(self._derive.digest(_LOOKUP_INFO)[:32])
        self._heads: dict[str, bytes] = {}  # by column, of which there are a handful
        self._off = sealing_off
        algorithm = ALGORITHM_NONE if sealing_off else ALGORITHM_AES_256_GCM
        self._prefix = bytes((VERSION, algorithm)) + key_id.bytes
        self._bound = b"".join(
            _counted(part)
            for part in (
                bytes((VERSION, algorithm)),
                owner.tenant_id.bytes,
                owner.kind.encode(),
                owner.owner_id.bytes,
                key_id.bytes,
                key_epoch.to_bytes(4, "big"),
            )
        )

    def seal(self, column: str, row: int | UUID, plaintext: bytes) -> bytes:
        """The sealed form of ``plaintext`` for the cell (``column``, ``row``)."""
        if self._off:
            return self._prefix + plaintext
        return self.seal_with_salt(column, row, plaintext, os.urandom(_SALT_SIZE))

    def seal_with_salt(self, column: str, row: int | UUID, plaintext: bytes, salt: bytes) -> bytes:
        """As :meth:`seal` with a given salt: for known-answer vectors. A salt must never serve twice under one data key."""
        key, nonce, commitment = self._value_keys(salt)
        return self._prefix + salt + commitment + AESGCM(key).encrypt(nonce, plaintext, self._cell(column, row))

    def open(self, column: str, row: int | UUID, sealed: bytes) -> bytes:
        """The plaintext of a value sealed for this very cell; SealError where anything at all is off."""
        if self._off and sealed[:_PREFIX_SIZE] == self._prefix:
            return bytes(sealed[_PREFIX_SIZE:])
        if len(sealed) < _HEADER_SIZE + _TAG_SIZE or sealed[:_PREFIX_SIZE] != self._prefix:
            raise SealError
        key, nonce, commitment = self._value_keys(sealed[_PREFIX_SIZE : _PREFIX_SIZE + _SALT_SIZE])
        if not compare_digest(sealed[_PREFIX_SIZE + _SALT_SIZE : _HEADER_SIZE], commitment):
            raise SealError
        try:
            return AESGCM(key).decrypt(nonce, sealed[_HEADER_SIZE:], self._cell(column, row))
        except InvalidTag:
            raise SealError from None

    def seal_all(self, column: str, values: Sequence[tuple[int, bytes | None]]) -> list[bytes | None]:
        """The sealed form of each (row, plaintext); None stays None. As :meth:`seal`, but what they share is done once."""
        if self._off:
            return [None if plaintext is None else self._prefix + plaintext for _, plaintext in values]
        salts, head, prefix, keys = os.urandom(_SALT_SIZE * len(values)), self._head(column), self._prefix, self._value_keys
        sealed: list[bytes | None] = []
        for at, (row, plaintext) in enumerate(values):
            if plaintext is None:
                sealed.append(None)
                continue
            salt = salts[at * _SALT_SIZE : (at + 1) * _SALT_SIZE]
            key, nonce, commitment = keys(salt)
            cell = head + row.to_bytes(8, "big")
            sealed.append(prefix + salt + commitment + AESGCM(key).encrypt(nonce, plaintext, cell))
        return sealed

    def open_all(self, column: str, values: Sequence[tuple[int, bytes | None]]) -> list[bytes | None]:
        """The plaintext of each (row, sealed value); None for None, and where anything is off: its neighbours are unharmed."""
        opened: list[bytes | None] = []
        for row, sealed in values:
            try:
                opened.append(None if sealed is None else self.open(column, row, sealed))
            except SealError:
                opened.append(None)
        return opened

    def hmac(self, purpose: str, value: bytes) -> bytes:
        """16 bytes by which equal values of one owner are found without being readable (keyed, one key per data key)."""
        return self._lookup.digest(_counted(purpose.encode()) + value)[:16]

    def _value_keys(self, salt: bytes) -> tuple[bytes, bytes, bytes]:
        material = self._derive.digest(_VALUE_INFO + salt + _FIRST_BLOCK)
        return material[:32], material[32:44], material[44:60]

    def _cell(self, column: str, row: int | UUID) -> bytes:
        if isinstance(row, UUID):
            return self._bound + _counted(column.encode()) + _counted(row.bytes)
        return self._head(column) + row.to_bytes(8, "big")

    def _head(self, column: str) -> bytes:
        """The additional data of a cell of a numbered row, up to the number itself."""
        head = self._heads.get(column)
        if head is None:
            head = self._heads[column] = self._bound + _counted(column.encode()) + (8).to_bytes(4, "big")
        return head


class _Hmac:
    """HMAC-SHA-512 (RFC 2104) under one key of at most 128 bytes. The two keyed states are made once and copied for each message: a third
    of what ``hmac.digest`` takes, which sets up the key again each time. Thread-safe: the states themselves are never updated."""

    def __init__(self, key: bytes) -> None:
        padded = key.ljust(_BLOCK_SIZE, b"\0")
        self._inner = hashlib.sha512(padded.translate(_INNER_PAD))
        self._outer = hashlib.sha512(padded.translate(_OUTER_PAD))

    def digest(self, message: bytes) -> bytes:
        inner = self._inner.copy()
        inner.update(message)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()


def _counted(part: bytes) -> bytes:
    return len(part).to_bytes(4, "big") + part


def digest_of(values: list[bytes]) -> bytes:
    """SHA-256 over ciphertexts in order, each with its length in front."""
    total = hashlib.sha256()
    for value in values:
        total.update(len(value).to_bytes(4, "big"))
        total.update(value)
    return total.digest()
