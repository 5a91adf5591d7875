import psycopg
import pytest
from psycopg import errors
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from db.errors import LeaseLost
from db.server.outages import passes

PASSES = [
    errors.DiskFull(),
    errors.OutOfMemory(),
    errors.TooManyConnections(),
    errors.AdminShutdown(),
    errors.CrashShutdown(),
    errors.CannotConnectNow(),
    errors.SerializationFailure(),
    errors.DeadlockDetected(),
    errors.LockNotAvailable(),
    errors.IdleInTransactionSessionTimeout(),
    errors.ReadOnlySqlTransaction(),
    errors.IoError(),
    psycopg.OperationalError("server closed the connection unexpectedly"),
]
STAYS = [
    errors.QueryCanceled(),
    errors.ProgramLimitExceeded(),
    errors.NumericValueOutOfRange(),
    errors.UniqueViolation(),
    errors.DataCorrupted(),
]


def wrapped(error: psycopg.Error) -> Exception:
    made = DBAPIError.instance(None, None, error, psycopg.Error)
    assert isinstance(made, DBAPIError)
    return made


@pytest.mark.parametrize("error", PASSES, ids=lambda error: type(error).__name__)
def test_trouble_of_the_store_passes(error: psycopg.Error) -> None:
    assert passes(wrapped(error))


@pytest.mark.parametrize("error", STAYS, ids=lambda error: type(error).__name__)
def test_what_is_wrong_with_the_statement_does_not(error: psycopg.Error) -> None:
    assert not passes(wrapped(error))


def test_other_errors_are_no_trouble_of_the_store() -> None:
    assert passes(PoolTimeout())
    assert not passes(LeaseLost())
    assert not passes(ValueError())
