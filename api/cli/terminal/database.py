"""The few commands that ask the database itself, not the API: what it refuses becomes a sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from api.cli.terminal.exits import CommandError, ExitCode

if TYPE_CHECKING:
    from db.connect import Store

WRONG_TABLES: Final = "42"  # what the server says of tables, columns and functions that are not there, or not for this role


@contextmanager
def database_answers() -> Iterator[None]:
    """A server that is away, or that lets us not in, becomes a sentence."""
    from api.local.home.refusals import StackError
    from db.server.outages import UNANSWERED
    from db.server.refusals import refusal

    try:
        yield
    except UNANSWERED as error:
        raise StackError(refusal(error).sentence, code="database_refused") from None


@contextmanager
def fleet_store() -> "Iterator[Store]":
    """As the dispatcher. A database that is away, or not at this version, becomes a sentence."""
    from contextlib import closing

    from sqlalchemy.exc import ProgrammingError

    from db.connect import open_store
    from db.settings import Role, StoreSettings, load

    with database_answers(), closing(open_store(load(StoreSettings), Role.DISPATCHER, pool_size=1)) as store:
        try:
            yield store
        except ProgrammingError as error:
            if not str(getattr(error.orig, "sqlstate", None)).startswith(WRONG_TABLES):
                raise
            raise CommandError(
                "The database is not at this version: run `textmill db migrate`.", ExitCode.UNREACHABLE, code="old_tables"
            ) from None
