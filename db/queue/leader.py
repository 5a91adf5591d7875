"""One leader among the dispatchers: whoever holds an advisory lock in Postgres. It ends with the session, so no lead is stale."""

import logging
from typing import Final

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import SQLAlchemyError

from db.connect import Store

DISPATCHER_LOCK: Final = 0x7E87_0001  # any number that nothing else in the database locks

log = logging.getLogger("textmill.leader")


class Leadership:
    """Asks for the lead, keeps it, and notices when it is gone. One thread owns it."""

    def __init__(self, store: Store, lock: int = DISPATCHER_LOCK) -> None:
        self._store = store
        self._lock = lock
        self._connection: Connection | None = None

    def held(self) -> bool:
        """True while this process leads; tries to take the lead where nobody has it. Raises nothing: no answer means no lead."""
        try:
            if self._connection is None:
                return self._take()
            self._connection.execute(select(1))
            return True
        except SQLAlchemyError:
            self.give_up()
            return False

    def give_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()  # the session must end, for the lock lives in it: back in the pool it would be kept
            connection.close()

    def _take(self) -> bool:
        connection = self._store.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            taken = bool(connection.execute(select(func.pg_try_advisory_lock(self._lock))).scalar_one())
        except SQLAlchemyError:
            connection.close()
            raise
        if taken:
            self._connection = connection
            log.info("this dispatcher leads")
        else:
            connection.close()
        return taken
