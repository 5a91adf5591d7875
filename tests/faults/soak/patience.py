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


def patiently_once(act: Callable[[], object], refusal: type[Exception]) -> None:
    """``act`` is refused where it was done before: by a try of ours whose answer was lost, or else it is an error."""
    tries = 0

    def trying() -> None:
        nonlocal tries
        tries += 1
        try:
            act()
        except refusal:
            if tries == 1:
                raise

    patiently(trying)
