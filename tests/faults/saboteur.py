"""Spoils the k-th thing that a store asks of Postgres: a statement, a commit, or what goes past SQLAlchemy to the driver."""

import threading
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final

import psycopg
from psycopg import sql
from sqlalchemy import Connection, event
from sqlalchemy.exc import OperationalError

from db import bulk
from db.connect import Store

REFUSED: Final = "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40001'; END $$"


class Fault(StrEnum):
    REFUSED = "the server refuses it"  # serialization_failure, which anything may meet
    CUT_BEFORE = "the connection is cut before it"
    CUT_AFTER = "it is done, and the connection is cut before the answer"


class Saboteur:
    """``cut(pid)`` ends a backend. What the store asks on any thread counts from :meth:`arm` on."""

    def __init__(self, store: Store, cut: Callable[[int], object], patch: Callable[[object, str, object], None]) -> None:
        self._cut = cut
        self._lock = threading.Lock()
        self._fault = Fault.REFUSED
        self._left: int | None = None
        self._spoilt_cursor: object = None
        event.listen(store.engine, "before_cursor_execute", self._before, retval=True)
        event.listen(store.engine, "after_cursor_execute", self._after)
        event.listen(store.engine, "commit", self._commit)
        for name in ("fetch", "stage"):
            patch(bulk, name, self._spoiling(getattr(bulk, name)))

    def arm(self, fault: Fault, number: int) -> None:
        """The ``number``-th from now on, counted from 1."""
        self._fault, self._left = fault, number

    def disarm(self) -> bool:
        """Whether it came to that."""
        struck, self._left = self._left == 0, None
        return struck

    def _is_its_turn(self) -> bool:
        with self._lock:
            if not self._left:
                return False
            self._left -= 1
            return self._left == 0

    def _before(self, conn: Connection, cursor: Any, statement: str, parameters: Any, *_: object) -> tuple[str, Any]:
        if not self._is_its_turn():
            return statement, parameters
        if self._fault is Fault.REFUSED:
            return REFUSED, {}
        if self._fault is Fault.CUT_BEFORE:
            self._cut(driver_of(conn).info.backend_pid)
        else:
            self._spoilt_cursor = cursor
        return statement, parameters

    def _after(self, conn: Connection, cursor: Any, *_: object) -> None:
        if self._spoilt_cursor is cursor:
            self._spoilt_cursor = None
            self._lose(driver_of(conn))

    def _commit(self, conn: Connection) -> None:
        if not self._is_its_turn():
            return
        driver = driver_of(conn)
        try:
            if self._fault is Fault.REFUSED:
                driver.execute(REFUSED)
            elif self._fault is Fault.CUT_BEFORE:
                self._cut(driver.info.backend_pid)
            else:
                driver.commit()
                self._lose(driver)
        except psycopg.Error as error:  # as SQLAlchemy makes it of an error in its own commit
            raise OperationalError("COMMIT", {}, error, connection_invalidated=driver.closed) from error

    def _spoiling(self, act: Callable[..., Any]) -> Callable[..., Any]:
        def spoil(conn: Connection, *rest: Any) -> Any:
            if not self._is_its_turn():
                return act(conn, *rest)
            if self._fault is Fault.REFUSED:  # in its place, so that what is raised comes the way that errors come
                return act(conn, REFUSED, {}) if act.__name__ == "fetch" else act(conn, Refused(), ())
            driver = driver_of(conn)
            if self._fault is Fault.CUT_BEFORE:
                self._cut(driver.info.backend_pid)
            done = act(conn, *rest)
            self._lose(driver)
            return done

        return spoil

    @staticmethod
    def _lose(driver: "psycopg.Connection[Any]") -> None:
        driver.close()
        raise psycopg.OperationalError("the connection is lost")


class Refused(bulk.Staging):
    """A staging table that cannot be made."""

    def __init__(self) -> None:
        super().__init__("refused", ())

    def create(self) -> sql.Composed:
        return sql.Composed([sql.SQL(REFUSED)])


def driver_of(conn: Connection) -> "psycopg.Connection[Any]":
    driver = conn.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver
