from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.faults.faulty_server import FaultyServer
from workers.engines.servers.loading import load_server_decoder, load_server_encoder
from workers.inference.continuous import ContinuousBatcher
from workers.inference.decoder import Decoder
from workers.models.server_entry import ServerEntry

# A busy machine makes no server hang: of a test that is about time, the time is its own.
QUICK: dict[str, Any] = {"timeout_seconds": 60.0, "hang_seconds": 60.0, "patience_seconds": 60.0}
DecoderOf = Callable[..., Decoder]


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with FaultyServer() as made:
        yield made


def entry_of(server: FaultyServer, **more: Any) -> ServerEntry:
    return ServerEntry(**{"id": "remote", "engine": "server", "url": server.url, **QUICK, **more})


@pytest.fixture
def decoder_of() -> Iterator[DecoderOf]:
    """``decoder_of(server, **entry)``: as a worker has it."""
    with ExitStack() as stack:

        def make(server: FaultyServer, **more: Any) -> Decoder:
            engine, plan = load_server_decoder(entry_of(server, **more))
            batcher = ContinuousBatcher([engine.slots()], name="remote", budget_tokens=plan.policy.budget_tokens)
            stack.callback(batcher.stop, drain=False)
            return Decoder(engine, batcher)

        yield make


@pytest.fixture
def encoder_of() -> Callable[..., Any]:
    return lambda server, **more: load_server_encoder(entry_of(server, **more))[0]
