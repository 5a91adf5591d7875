"""The one way to Postgres: a pool per process, logged in as the component's own role, and transactions that say for whom they act."""

import copy
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

from psycopg import Connection as DriverConnection
from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError, OperationalError

from db.errors import StoreError
from db.moments import load_moments
from db.recent import until_commit
from db.sealing.authority import Authority
from db.sealing.keys import KeyRing, LocalKeyFile
from db.server.revision import Version
from db.server.versions import SchemaFit
from db.settings import Role, StoreSettings
from db.tally import NOBODY, Tally

log = logging.getLogger("textmill.store")

# A lock held by an admin must not outlast a lease silently, and who asks is answered within 5 s.
LOCK_TIMEOUT_MS: Final = 4_000
BRIEF_MS: Final = 200  # so long who has no patience left waits for what somebody holds for a moment
STATEMENT_TIMEOUT_MS: Final = 300_000  # a retry forgets the failures of a job in one statement
# A worker that is stopped in the middle of a transaction keeps its locks, which the reconciler steps around. While it copies rows the
# server waits in a statement, else between two: both end within about a lease. No transaction of ours waits for anything but the database.
WORKER_STATEMENT_TIMEOUT_MS: Final = 30_000
IDLE_IN_TRANSACTION_MS: Final = 10_000
# A network that swallows packets must end a statement within a lease, not after the kernel's quarter of an hour. TCP only; in ms and s.
SILENT_NETWORK: Final = {"tcp_user_timeout": 15_000, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 2}

# In one statement, so that a transaction has its context before anything else runs. `true` ends it with the transaction. It also asks for
# the schema's version, and holds off migrations until it ends: no program touches a schema that it was not made for.
_CONTEXT: Final = text(
    "SELECT set_config('textmill.tenant', :tenant, true), set_config('textmill.shard', :shard, true), "
    "set_config('textmill.epoch', :epoch, true), set_config('textmill.key_hash', :key_hash, true), "
    "(SELECT to_jsonb(version) FROM alembic_version AS version) AS schema"
)
_SET_ALL: Final = "SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS setting (name, value)"
_HURRIED_CONTEXT: Final = text(f"{_CONTEXT.text}, set_config('lock_timeout', :lock_timeout, true)")


class Patience:
    """How long is waited for what others hold, in all and from now on: by a request, whose transactions share it, so that none of them
    waits what another has waited already. The server looks at each lock by itself, so what is left is told to it with every transaction."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self.renew()

    def renew(self) -> None:
        """As if it began now: of a stream, at each of its parts."""
        self._until = self._clock() + self._seconds

    def lock_timeout_ms(self) -> int:
        """Never none: the server takes 0 for ever."""
        return max(BRIEF_MS, round((self._until - self._clock()) * 1000))


def _is_on_record() -> None:
    """Of a refusal that is there already: once is enough."""


class Store:
    """A process's door to the sealed store: its role, its pool, its key ring, who counts. Thread-safe. ``sessions``: what the server calls
    its connections."""

    def __init__(
        self, url: URL, role: Role, keyring: KeyRing, *, pool_size: int = 8, start: str | None = None, tally: Tally = NOBODY
    ) -> None:
        self.role = role
        self.keyring = keyring
        self.tally = tally
        self.sessions = f"textmill-{role.value}" + (f" {start}" if start else "")
        self.schema = SchemaFit()  # one with all copies: see `hurried`, `within` and `guarded`
        self._lock_timeout_ms: Callable[[], int] | None = None
        self._patience: Patience | None = None
        self._guard: Callable[[Connection], None] | None = None
        statement_timeout_ms = WORKER_STATEMENT_TIMEOUT_MS if role is Role.WORKER else STATEMENT_TIMEOUT_MS
        self.engine: Engine = create_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=30,
            hide_parameters=True,  # an error of the driver must not quote values
            connect_args={"application_name": self.sessions, "connect_timeout": 10, **SILENT_NETWORK},
        )
        session = {
            "lock_timeout": f"{LOCK_TIMEOUT_MS}",
            "statement_timeout": f"{statement_timeout_ms}",
            "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_MS}",
            "timezone": "UTC",
        }
        event.listen(self.engine, "connect", lambda driver, _: set_in_session(driver, session))
        event.listen(self.engine, "connect", lambda driver, _: load_moments(driver))

    @contextmanager
    def transaction(
        self, *, tenant: UUID | None = None, shard: UUID | None = None, epoch: int | None = None, key_hash: bytes | None = None
    ) -> Iterator[Connection]:
        """One transaction under the row-level security of ``tenant`` (and of the lease on ``shard`` at ``epoch``); commits on exit."""
        try:
            with self._begun(tenant, shard, epoch, key_hash) as connection:
                yield connection
        except StoreError as refusal:  # its record must outlast what was undone, and is there before anybody hears of it
            if (put_on_record := refusal.put_on_record) is not None:
                refusal.put_on_record = _is_on_record  # where it leaves another transaction, too
                put_on_record()
            raise

    @contextmanager
    def _begun(self, tenant: UUID | None, shard: UUID | None, epoch: int | None, key_hash: bytes | None) -> Iterator[Connection]:
        context = {
            "tenant": str(tenant) if tenant else "",
            "shard": str(shard) if shard else "",
            "epoch": str(epoch) if epoch is not None else "",
            "key_hash": key_hash.hex() if key_hash else "",
        }
        connection, found = self._connected(context)
        with connection, connection.get_transaction() or connection.begin() as running:  # the one that the context began
            seen = until_commit(connection)
            self.schema.ensure(found)
            if self._guard is not None:
                self._guard(connection)
            yield connection
            committed = running.is_active  # else rolled back, without an error
        if committed:
            for keep in seen:
                keep()

    def _connected(self, context: dict[str, str], *, again: bool = True) -> tuple[Connection, Version | None]:
        """A transaction that has its context, and the schema's version.

        That a connection was lost while it lay in the pool is seen here, before anything else was asked of it: so there is no ping at each
        transaction, which would be one more round trip, and a second try costs nothing but itself."""
        connection = self.engine.connect()
        try:
            if self._lock_timeout_ms is None:
                began = connection.execute(_CONTEXT, context).one()
            else:
                began = connection.execute(_HURRIED_CONTEXT, {**context, "lock_timeout": f"{self._lock_timeout_ms()}ms"}).one()
        except BaseException as error:
            connection.close()
            if again and isinstance(error, DBAPIError) and error.connection_invalidated:
                return self._connected(context, again=False)
            raise
        return connection, began.schema

    def authority(self) -> Authority:
        """What vouches for API keys; made where the store has none yet. Raises SettingsError where the key file is another one."""
        if (known := self.keyring.authority) is not None:
            return known
        with self.transaction() as conn:
            loaded = self.keyring.load_authority(conn)
        self.keyring.authority = loaded  # only now, after the commit: what vouches for a key must be there tomorrow
        return loaded

    def hurried(self, lock_timeout_ms: int) -> "Store":
        """The same pool and key ring; its transactions wait so long for a lock that somebody holds."""
        other = copy.copy(self)
        other._lock_timeout_ms = lambda: lock_timeout_ms
        return other

    def within(self, patience: Patience) -> "Store":
        """The same pool and key ring; its transactions wait for locks as long as ``patience`` lasts, all together."""
        other = copy.copy(self)
        other._patience, other._lock_timeout_ms = patience, patience.lock_timeout_ms
        return other

    def renew_patience(self) -> None:
        """Where it has one: the next part of a stream begins."""
        if self._patience is not None:
            self._patience.renew()

    def guarded(self, guard: Callable[[Connection], None]) -> "Store":
        """The same pool and key ring; each transaction begins with ``guard``, which raises where it must not go on."""
        other = copy.copy(self)
        other._guard = guard
        return other

    def ask(self) -> None:
        """Raises what the driver does where the database does not answer, and AnotherSchema."""
        with self.transaction():
            pass

    def close(self) -> None:
        """Closes the pool."""
        self.engine.dispose()


def open_store(settings: StoreSettings, role: Role, *, pool_size: int = 8, start: str | None = None, tally: Tally = NOBODY) -> Store:
    """Opens the store as ``role``. The dispatcher and the auditor hold no keys: they open nothing. ``start`` of the process, where the
    server's other clients must tell its connections from those of others."""
    if settings.unsafe_sealing_off:
        log.warning("SEALING IS OFF (TEXTMILL_UNSAFE_SEALING_OFF): everything this process stores is readable by whoever gets the database")
    if role in (Role.API, Role.WORKER, Role.OWNER):
        keyring = KeyRing(LocalKeyFile.load(settings.kek_path), sealing_off=settings.unsafe_sealing_off)
    else:
        keyring = KeyRing(None)
    return Store(settings.database_url_for(role), role, keyring, pool_size=pool_size, start=start, tally=tally)


def ensure_key(settings: StoreSettings, role: Role) -> None:
    """Raises AnotherKeyFile where the key file is not the one that the store's keys were wrapped with. A database that is away is no reason
    to stay away too."""
    store = open_store(settings, role, pool_size=1)
    try:
        with store.transaction() as conn:
            store.keyring.check(conn)
    except OperationalError:
        return
    finally:
        store.close()


def set_in_session(driver: DriverConnection[Any], settings: dict[str, str]) -> None:
    """Settings of the server's, for as long as the session lasts. Not as options of the connection: a pooler refuses those, or is told to
    leave them out, and nobody would know."""
    own, driver.autocommit = driver.autocommit, True
    driver.execute(_SET_ALL, (list(settings), list(settings.values())))
    driver.autocommit = own
