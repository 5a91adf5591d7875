"""The queue's hints: claim checks that go to the broker, and how many wait there."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, Protocol
from uuid import UUID

from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from workers import app as messages

BROKER_ERRORS: Final = (KombuError, RedisError, OSError)


class Broker(Protocol):
    """Where claim checks go. Both raise one of BROKER_ERRORS where it is away."""

    def waiting(self) -> int:
        """Messages that no worker has taken yet."""

    def publish(self, shards: list[tuple[UUID, int]]) -> None: ...


class CeleryBroker:
    """The real one: one connection, made when it is needed and dropped at the first failure."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._producer: Any = None

    def waiting(self) -> int:
        with self._fresh_after_failure() as producer:
            return int(producer.channel.queue_declare(queue=messages.QUEUE, passive=False).message_count)

    def publish(self, shards: list[tuple[UUID, int]]) -> None:
        with self._fresh_after_failure() as producer:
            for shard_id, epoch in shards:
                messages.run_shard.apply_async(kwargs={"shard_id": str(shard_id), "epoch": epoch}, producer=producer, retry=False)

    def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(*BROKER_ERRORS):
                producer.connection.release()

    @contextmanager
    def _fresh_after_failure(self) -> Iterator[Any]:
        try:
            if self._producer is None:
                self._producer = messages.app.amqp.Producer(messages.app.connection_for_write(self._url), auto_declare=False)
            yield self._producer
        except BROKER_ERRORS:
            self.close()
            raise
