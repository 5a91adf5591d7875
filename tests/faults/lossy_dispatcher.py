"""A dispatcher half of whose messages never arrive (LOSS: another part of them)."""

import logging
import os
import random
from uuid import UUID

from workers.dispatch import dispatcher
from workers.dispatch.broker import CeleryBroker

LOSS = float(os.environ.get("LOSS", "0.5"))

log = logging.getLogger("textmill.lossy")


class LossyBroker(CeleryBroker):
    def publish(self, shards: list[tuple[UUID, int]]) -> None:
        for shard in shards:
            if random.random() < LOSS:
                log.warning("a message is lost")
            else:
                super().publish([shard])


if __name__ == "__main__":
    vars(dispatcher)["CeleryBroker"] = LossyBroker
    raise SystemExit(dispatcher.main())
