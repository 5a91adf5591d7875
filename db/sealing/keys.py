"""Keys as an envelope: the KEK wraps tenant key epochs, a tenant key epoch wraps one data key per tenant, file or job.

The KEK never enters the database; what the database holds opens nothing by itself. Unwrapped data keys are cached in memory per process.
"""

import base64
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, Protocol
from uuid import UUID, uuid4

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Connection, Row, insert, select, text

from db.errors import AnotherKeyFile, NotFound, SealError, SettingsError
from db.private_files import NoText, make_private_folder, read_private
from db.recent import Recent
from db.schema import data_keys, store_keys, tenant_keys
from db.sealing.authority import Authority
from db.sealing.cells import BrokenKey, KeyOwner, Opener, Sealer

OwnerKind = Literal["tenant", "file", "job"]
Owner = tuple[OwnerKind, UUID]  # of a data key, within its tenant

KEY_SIZE: Final = 32
_NONCE_SIZE: Final = 12
CACHED_KEYS: Final = 1024  # a data key is some 200 bytes in memory; a worker meets a handful of jobs at a time


class KekProvider(Protocol):
    """What wraps tenant keys: a local file here; a KMS or Vault has the same shape."""

    kek_id: str

    def wrap(self, key: bytes, bound: bytes) -> bytes: ...

    def unwrap(self, wrapped: bytes, bound: bytes) -> bytes: ...


class LocalKeyFile:
    """A KEK in a JSON file of mode 0600: ``{"version": 1, "kek_id": …, "key": base64}``. Not for machines that others administer."""

    def __init__(self, kek_id: str, key: bytes) -> None:
        self.kek_id = kek_id
        self._aead = AESGCM(key)

    @classmethod
    def create(cls, path: Path) -> "LocalKeyFile":
        """Makes a new key file; never overwrites one."""
        make_private_folder(path.parent)
        kek_id, key = uuid4().hex, AESGCM.generate_key(bit_length=256)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise SettingsError(f"The key file {path} exists already; it is never overwritten.") from None
        try:
            with os.fdopen(handle, "w") as file:
                json.dump({"version": 1, "kek_id": kek_id, "key": base64.b64encode(key).decode()}, file)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            path.unlink(missing_ok=True)  # a full disk: half a file would be taken for a damaged key ever after
            raise
        return cls(kek_id, key)

    @classmethod
    def load(cls, path: Path) -> "LocalKeyFile":
        """Reads a key file. Raises SettingsError where it is damaged, not ours, or open to others."""
        try:
            content = read_private(path)
        except NoText:
            raise SettingsError(f"The key file {path} is damaged: restore it from your backup.") from None
        except SettingsError as error:
            raise SettingsError(f"The key file {error.message}") from None
        except FileNotFoundError:
            raise SettingsError(
                f"No key file at {path}: put the store's there, or name it in TEXTMILL_KEK_FILE. That of a new store is made by "
                "`textmill up` or deploy/make-secrets."
            ) from None
        except OSError:
            raise SettingsError(f"The key file {path} cannot be read by this user: give it to the one that textmill runs as.") from None
        try:
            document = json.loads(content)
            if document["version"] != 1:
                raise SettingsError(f"The key file {path} is of a newer version than this textmill knows: upgrade textmill.")
            key = base64.b64decode(document["key"], validate=True)
            kek_id = str(document["kek_id"])
        except (ValueError, KeyError, TypeError):
            raise SettingsError(f"The key file {path} is damaged: restore it from your backup.") from None
        if len(key) != KEY_SIZE:
            raise SettingsError(f"The key file {path} is damaged: restore it from your backup.")
        return cls(kek_id, key)

    def wrap(self, key: bytes, bound: bytes) -> bytes:
        """``key`` encrypted, openable only with the same ``bound``."""
        nonce = os.urandom(_NONCE_SIZE)
        return nonce + self._aead.encrypt(nonce, key, bound)

    def unwrap(self, wrapped: bytes, bound: bytes) -> bytes:
        """The inverse of :meth:`wrap`; SealError where key, binding or bytes do not fit."""
        return _unwrap(self._aead, wrapped, bound)


_LOAD: Final = text(
    """
    SELECT k.owner_kind, k.owner_id, k.key_id, k.key_epoch, k.wrapped, t.kek_id, t.wrapped AS outermost
    FROM data_keys k LEFT JOIN tenant_keys t ON t.tenant_id = k.tenant_id AND t.key_epoch = k.key_epoch
    WHERE k.tenant_id = :tenant
      AND (k.owner_kind, k.owner_id) IN (SELECT * FROM unnest(CAST(:kinds AS text[]), CAST(:ids AS uuid[])))
    """
)

_MAKE_AUTHORITY: Final = text(
    "INSERT INTO store_keys (purpose, kek_id, wrapped) VALUES ('authority', :kek, :wrapped) ON CONFLICT DO NOTHING"
)
_AUTHORITY_BOUND: Final = b"textmill authority key 1"


class KeyRing:
    """Makes and finds data keys. Thread-safe. With no provider it holds no keys and opens nothing (dispatcher, auditor)."""

    def __init__(self, provider: KekProvider | None, *, sealing_off: bool = False) -> None:
        self._provider = provider
        self._sealing_off = sealing_off
        self._sealers: Recent[KeyOwner, Sealer] = Recent(CACHED_KEYS)
        self.authority: Authority | None = None  # once it was loaded, and is sure to stay: see db.connect.Store.authority

    def load_authority(self, conn: Connection) -> Authority:
        """Unwraps the store's authority key, and makes it where there is none: of several that make one at once, the first counts."""
        provider = self._kek()
        made = provider.wrap(AESGCM.generate_key(bit_length=256), _AUTHORITY_BOUND)
        conn.execute(_MAKE_AUTHORITY, {"kek": provider.kek_id, "wrapped": made})
        found = conn.execute(select(store_keys.c.kek_id, store_keys.c.wrapped)).one()
        _check_kek(found.kek_id, provider)
        return Authority(provider.unwrap(found.wrapped, _AUTHORITY_BOUND))

    def check(self, conn: Connection) -> None:
        """Raises AnotherKeyFile where the store's keys were wrapped by that. Where there are none yet, any will do."""
        provider = self._kek()
        if (found := conn.execute(select(store_keys.c.kek_id, store_keys.c.wrapped)).one_or_none()) is None:
            return
        _check_kek(found.kek_id, provider)
        try:
            provider.unwrap(found.wrapped, _AUTHORITY_BOUND)
        except SealError:
            raise AnotherKeyFile from None

    def new_tenant_key(self, conn: Connection, tenant_id: UUID) -> int:
        """Adds the next key epoch of a tenant and returns its number. The transaction must be the tenant's."""
        provider = self._kek()
        latest = conn.execute(
            select(tenant_keys.c.key_epoch).where(tenant_keys.c.tenant_id == tenant_id).order_by(tenant_keys.c.key_epoch.desc()).limit(1)
        ).scalar_one_or_none()
        epoch = (latest or 0) + 1
        wrapped = provider.wrap(AESGCM.generate_key(bit_length=256), _tenant_bound(tenant_id, epoch))
        conn.execute(
            insert(tenant_keys).values(tenant_id=tenant_id, key_epoch=epoch, kek_id=provider.kek_id, wrapped=wrapped, state="active")
        )
        return epoch

    def new_data_key(self, conn: Connection, tenant_id: UUID, owner_kind: OwnerKind, owner_id: UUID) -> Sealer:
        """Makes the data key of an owner; cached once it has committed."""
        epoch, tenant_key = self._tenant_key(conn, tenant_id)
        owner, key_id, key = KeyOwner(tenant_id, owner_kind, owner_id), uuid4(), AESGCM.generate_key(bit_length=256)
        nonce = os.urandom(_NONCE_SIZE)
        wrapped = nonce + AESGCM(tenant_key).encrypt(nonce, key, _data_bound(owner, key_id, epoch))
        conn.execute(
            insert(data_keys).values(
                tenant_id=tenant_id, key_id=key_id, owner_kind=owner_kind, owner_id=owner_id, key_epoch=epoch, wrapped=wrapped
            )
        )
        return self._cache(conn, Sealer(owner, key_id, epoch, key, sealing_off=self._sealing_off))

    def sealer(self, conn: Connection, tenant_id: UUID, owner_kind: OwnerKind, owner_id: UUID) -> Sealer:
        """The sealer of an owner, from the cache or unwrapped now; NotFound where the key is gone or not visible to this role, SealError
        where it was altered."""
        found = self.load(conn, tenant_id, [(owner_kind, owner_id)]).get((owner_kind, owner_id))
        if found is None:
            raise NotFound("The data key of this object does not exist any more.", code="key_destroyed")
        if isinstance(found, BrokenKey):
            raise SealError
        return found

    def opener(self, conn: Connection, tenant_id: UUID, owner_kind: OwnerKind, owner_id: UUID) -> Opener:
        """As :meth:`sealer`, to read what lies there: where the key is gone or altered, none of that opens."""
        return self.openers(conn, tenant_id, [(owner_kind, owner_id)])[owner_kind, owner_id]

    def openers(self, conn: Connection, tenant_id: UUID, owners: Sequence[Owner]) -> dict[Owner, Opener]:
        """As :meth:`opener`, of several in one query."""
        found = self.load(conn, tenant_id, owners)
        return {owner: found.get(owner) or BrokenKey(KeyOwner(tenant_id, *owner)) for owner in owners}

    def load(self, conn: Connection, tenant_id: UUID, owners: Sequence[Owner]) -> dict[Owner, Opener]:
        """The owners' sealers; those that are not cached are unwrapped, in one query, and cached once the transaction has committed, with
        the event that let it see them. A key that is gone, or not visible here, is left out; one that was altered is none of the others'
        trouble, and is looked at anew the next time."""
        cached = {owner: self.cached(tenant_id, *owner) for owner in owners}
        known: dict[Owner, Opener] = {owner: sealer for owner, sealer in cached.items() if sealer is not None}
        missing = [owner for owner in owners if owner not in known]
        if not missing:
            return known
        kinds, ids = [kind for kind, _ in missing], [owner_id for _, owner_id in missing]
        for row in conn.execute(_LOAD, {"tenant": tenant_id, "kinds": kinds, "ids": ids}).all():
            if (opener := self._unwrap_data_key(conn, KeyOwner(tenant_id, row.owner_kind, row.owner_id), row)) is not None:
                known[row.owner_kind, row.owner_id] = opener
        return known

    def cached(self, tenant_id: UUID, owner_kind: OwnerKind, owner_id: UUID) -> Sealer | None:
        """The sealer of an owner where this process has it already."""
        return self._sealers.get(KeyOwner(tenant_id, owner_kind, owner_id))

    def forget(self, tenant_id: UUID, owner_kind: OwnerKind, owner_id: UUID) -> None:
        """Drops a cached data key: its owner was deleted."""
        self._sealers.drop(KeyOwner(tenant_id, owner_kind, owner_id))

    def _cache(self, conn: Connection, sealer: Sealer) -> Sealer:
        self._sealers.put_after(conn, sealer.owner, sealer)
        return sealer

    def _unwrap_data_key(self, conn: Connection, owner: KeyOwner, row: Row[Any]) -> Opener | None:
        """Of a row of ``_LOAD``, cached where it opens; None where the tenant's own key is gone."""
        try:
            tenant_key = self._unwrap_tenant_key(owner.tenant_id, row.key_epoch, row.kek_id, row.outermost)
            key = _unwrap(AESGCM(tenant_key), row.wrapped, _data_bound(owner, row.key_id, row.key_epoch))
        except SealError:
            return BrokenKey(owner)
        except NotFound:
            return None
        return self._cache(conn, Sealer(owner, row.key_id, row.key_epoch, key, sealing_off=self._sealing_off))

    def _tenant_key(self, conn: Connection, tenant_id: UUID) -> tuple[int, bytes]:
        """The active epoch and its key."""
        found = conn.execute(
            select(tenant_keys.c.key_epoch, tenant_keys.c.kek_id, tenant_keys.c.wrapped)
            .where(tenant_keys.c.tenant_id == tenant_id, tenant_keys.c.state == "active")
            .order_by(tenant_keys.c.key_epoch.desc())
            .limit(1)
        ).one_or_none()
        epoch, kek_id, wrapped = (0, None, None) if found is None else found
        return epoch, self._unwrap_tenant_key(tenant_id, epoch, kek_id, wrapped)

    def _unwrap_tenant_key(self, tenant_id: UUID, epoch: int, kek_id: str | None, wrapped: bytes | None) -> bytes:
        provider = self._kek()
        if kek_id is None or wrapped is None:
            raise NotFound("The tenant's key does not exist any more.", code="key_destroyed")
        _check_kek(kek_id, provider)
        return provider.unwrap(wrapped, _tenant_bound(tenant_id, epoch))

    def _kek(self) -> KekProvider:
        if self._provider is None:
            raise SettingsError("This component holds no keys and opens nothing.")
        return self._provider


def _check_kek(kek_id: str, provider: KekProvider) -> None:
    if kek_id != provider.kek_id:
        raise AnotherKeyFile


def _unwrap(aead: AESGCM, wrapped: bytes, bound: bytes) -> bytes:
    try:
        return aead.decrypt(wrapped[:_NONCE_SIZE], wrapped[_NONCE_SIZE:], bound)
    except (InvalidTag, ValueError):
        raise SealError from None


def _tenant_bound(tenant_id: UUID, epoch: int) -> bytes:
    return b"textmill tenant key 1" + tenant_id.bytes + epoch.to_bytes(4, "big")


def _data_bound(owner: KeyOwner, key_id: UUID, epoch: int) -> bytes:
    kind = owner.kind.encode()
    return (
        b"textmill data key 1"
        + owner.tenant_id.bytes
        + bytes((len(kind),))
        + kind
        + owner.owner_id.bytes
        + key_id.bytes
        + epoch.to_bytes(4, "big")
    )
