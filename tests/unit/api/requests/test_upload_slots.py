"""How long the next bytes of an upload are waited for."""

from collections.abc import AsyncIterator

import pytest

from api.requests.upload_slots import LEAST_RATE, Incoming


async def nothing() -> AsyncIterator[bytes]:
    yield b""


@pytest.mark.parametrize(
    ("size_bytes", "waited", "patience"),
    [
        (0, 0, 60),
        (0, 60, 0),
        (1, 59, 1 + 1 / LEAST_RATE),  # a byte a minute
        (10, 600, -540 + 10 / LEAST_RATE),
        (LEAST_RATE * 600, 600, 60),  # as slow as may be
        (1 << 30, 3_600, 60),  # never more than one stands still
    ],
)
def test_a_sender_is_waited_for_as_long_as_its_bytes_are_worth(size_bytes: int, waited: float, patience: float) -> None:
    assert Incoming(nothing(), size_bytes, waited).patience(60) == pytest.approx(patience)
