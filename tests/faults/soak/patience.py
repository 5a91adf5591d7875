"""How a client of a store that is being broken behaves: it asks again."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

import psycopg
from sqlalchemy.exc import SQLAlchemyError

T = TypeVar("T")
TROUBLES: Final = (SQLAlchemyError, psycopg.Error)
PATIENCE_SECONDS: Final = 120.0
PAUSE_SECONDS: Final = 0.3


def patiently(act: Callable[[], T]) -> T:
    """``act`` must be such that it may be done twice. Raises what it raised last, once patience is at an end."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return act()
        except TROUBLES:
            if time.monotonic() > until:
                raise
        time.sleep(PAUSE_SECONDS)
