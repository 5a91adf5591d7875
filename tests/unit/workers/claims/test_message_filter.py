from typing import Any
from uuid import uuid4

import pytest

from workers.app import RUN_SHARD
from workers.claims.message_filter import is_claim_check


class Received:
    """As much of a kombu message as the guard reads."""

    def __init__(self, headers: Any = None, payload: Any = None) -> None:
        check = {"shard_id": str(uuid4()), "epoch": 1}
        embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
        self.headers = {"task": RUN_SHARD, "id": str(uuid4()), "eta": None, "timelimit": [None, None], **(headers or {})}
        self._payload = [[], check, embed] if payload is None else payload

    @property
    def payload(self) -> Any:
        if isinstance(self._payload, Exception):
            raise self._payload
        return self._payload


def test_what_the_dispatcher_publishes_is_taken() -> None:
    assert is_claim_check(Received())


@pytest.mark.parametrize(
    "message",
    [
        Received(headers={"task": "os.system"}),
        Received(headers={"task": ["list"]}),
        Received(headers={"id": None}),
        Received(headers={"eta": "2099-01-01T00:00:00"}),
        Received(headers={"expires": 1}),
        Received(headers={"timelimit": [1, None]}),
        Received(headers={"timelimit": 7}),
        Received(payload="text"),
        Received(payload=[]),
        Received(payload=[[], {}, {}, {}]),
        Received(payload=[["x"], {"shard_id": str(uuid4()), "epoch": 1}, {}]),
        Received(payload=[[], {"shard_id": "x", "epoch": 1}, {}]),
        Received(payload=[[], {"shard_id": str(uuid4()), "epoch": 1}, {"chain": [{"task": "a"}]}]),
        Received(payload=[[], {"shard_id": str(uuid4()), "epoch": 1}, {"callbacks": [{"task": "a"}]}]),
        Received(payload=ValueError("cannot decode")),
        object(),
    ],
)
def test_anything_else_is_not(message: Any) -> None:
    assert not is_claim_check(message)
