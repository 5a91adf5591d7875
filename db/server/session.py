"""A session of the server's, before anything else is known of it: for questions to it, and for migrations."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, Final

import psycopg
from psycopg.conninfo import make_conninfo
from sqlalchemy import URL

from db.settings import parameters_of

CONNECT_SECONDS: Final = 10


@contextmanager
def session(url: URL) -> Iterator[psycopg.Connection[Any]]:
    """A connection for questions, each in a transaction of its own."""
    with closing(psycopg.connect(dsn(url), autocommit=True, connect_timeout=CONNECT_SECONDS)) as conn:
        yield conn


def dsn(url: URL) -> str:
    """For psycopg itself. Not as a URL: its parser refuses a space in a password, and quotes the password in the error."""
    return make_conninfo("", **url.translate_connect_args(username="user", database="dbname"), **parameters_of(url))
