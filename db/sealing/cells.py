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
from struct import iter_unpack
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.hmac import HMAC

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
        # Keyed once, and copied for each message: less than half of what keying anew takes. Never updated later, so safe in threads.
        keyed = HMAC(data_key, SHA512())
        self._lookup = HMAC(_digest(keyed, _LOOKUP_INFO)[:32], SHA512())
        self._derive = keyed.copy()
        self._derive.update(_VALUE_INFO)
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

    def seal_all(self, column: str, rows: Sequence[int], plaintexts: Sequence[bytes | None]) -> list[bytes | None]:
        """The sealed form of each row's plaintext; None stays None. As :meth:`seal`, but what they share is done once."""
        if self._off:
            return [None if plaintext is None else self._prefix + plaintext for plaintext in plaintexts]
        head, prefix, keys = self._head(column), self._prefix, self._value_keys
        salts = iter_unpack(f"{_SALT_SIZE}s", os.urandom(_SALT_SIZE * len(plaintexts)))
        sealed: list[bytes | None] = []
        for row, plaintext, (salt,) in zip(rows, plaintexts, salts, strict=True):
            if plaintext is None:
                sealed.append(None)
                continue
            key, nonce, commitment = keys(salt)
            sealed.append(prefix + salt + commitment + AESGCM(key).encrypt(nonce, plaintext, head + row.to_bytes(8, "big")))
        return sealed

    def open_all(self, column: str, rows: Sequence[int], values: Sequence[bytes | None]) -> list[bytes | None]:
        """The plaintext of each row's sealed value; None for None, and where anything is off: its neighbours are unharmed."""
        opened: list[bytes | None] = []
        for row, sealed in zip(rows, values, strict=True):
            try:
                opened.append(None if sealed is None else self.open(column, row, sealed))
            except SealError:
                opened.append(None)
        return opened

    def hmac(self, purpose: str, value: bytes) -> bytes:
        """16 bytes by which equal values of one owner are found without being readable (keyed, one key per data key)."""
        return _digest(self._lookup, _counted(purpose.encode()) + value)[:16]

    def hmac_all(self, purpose: str, values: Sequence[bytes | None]) -> list[bytes | None]:
        """As :meth:`hmac` for each value; None stays None."""
        begun = self._lookup.copy()
        begun.update(_counted(purpose.encode()))
        return [None if value is None else _digest(begun, value)[:16] for value in values]

    def _value_keys(self, salt: bytes) -> tuple[bytes, bytes, bytes]:
        material = _digest(self._derive, salt + _FIRST_BLOCK)
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


class BrokenKey:
    """In the place of a sealer whose data key does not open, or is gone: nothing opens with it either, each value by itself."""

    def __init__(self, owner: KeyOwner) -> None:
        self.owner = owner

    def open(self, column: str, row: int | UUID, sealed: bytes) -> bytes:
        raise SealError

    def open_all(self, column: str, rows: Sequence[int], values: Sequence[bytes | None]) -> list[bytes | None]:
        return [None] * len(values)

    def hmac(self, purpose: str, value: bytes) -> bytes:
        raise SealError


Opener = Sealer | BrokenKey  # what reads


def _digest(keyed: HMAC, message: bytes) -> bytes:
    state = keyed.copy()
    state.update(message)
    return state.finalize()


def _counted(part: bytes) -> bytes:
    return len(part).to_bytes(4, "big") + part


def digest_of(values: list[bytes]) -> bytes:
    """SHA-256 over ciphertexts in order, each with its length in front."""
    total = hashlib.sha256()
    for value in values:
        total.update(len(value).to_bytes(4, "big"))
        total.update(value)
    return total.digest()
