"""What only a holder of the store's authority key can have written: a keyed hash to look a secret up by, and a MAC over a record.

Whoever may write a table has no authority by that: what they write does not fit. The authority key lies in the database wrapped by the KEK
(:meth:`db.sealing.keys.KeyRing.authority`), so that a KEK can be replaced without touching what it vouches for.
"""

import hashlib
import hmac
from collections.abc import Iterable
from typing import Final

_HASH_INFO: Final = b"textmill authority hash 1\x01"
_MAC_INFO: Final = b"textmill authority mac 1\x01"


class Authority:
    """HMAC-SHA256 under two keys, each one block of HKDF-Expand (RFC 5869) of the authority key. Thread-safe."""

    def __init__(self, key: bytes) -> None:
        self._hash_key = hmac.digest(key, _HASH_INFO, hashlib.sha256)
        self._mac_key = hmac.digest(key, _MAC_INFO, hashlib.sha256)

    def hash_of(self, digest: bytes) -> bytes:
        """32 bytes to look a secret up by, of the secret's own SHA-256. Equal for equal secrets."""
        return hmac.digest(self._hash_key, digest, hashlib.sha256)

    def mac_of(self, parts: Iterable[bytes]) -> bytes:
        """32 bytes over ``parts`` in order, each with its length in front: no two lists share an encoding."""
        return hmac.digest(self._mac_key, b"".join(len(part).to_bytes(8, "big") + part for part in parts), hashlib.sha256)

    def vouches_for(self, parts: Iterable[bytes], mac: bytes | None) -> bool:
        """Whether ``mac`` was made here over just these ``parts``. In constant time."""
        return hmac.compare_digest(self.mac_of(parts), mac or b"")
