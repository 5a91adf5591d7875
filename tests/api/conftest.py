"""The HTTP application on a real port, for clients that know nothing of it."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import httpx
import openai
import pytest
import uvicorn
from fastapi import FastAPI

from api.app import create_app
from api.requests.punctual import Punctual
from api.settings import ApiSettings
from db.actors import Actor
from db.connect import Store
from db.operators.api_keys import SCOPES, create_api_key
from db.settings import Role, StoreSettings
from tests.api.mill import Mill
from tests.waiting import wait_until

START_SECONDS = 20


@dataclass
class Served:
    """A running API and a key with all scopes."""

    url: str
    key: str
    app: FastAPI
    actor: Actor
    clients: list[httpx.Client] = field(default_factory=list)

    def http(self, key: str | None = None) -> httpx.Client:
        """Plain HTTP, as a caller with ``key`` (this one's if None; none at all if empty)."""
        chosen = self.key if key is None else key
        headers = {"authorization": f"Bearer {chosen}"} if chosen else {}
        client = httpx.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False)
        self.clients.append(client)
        return client

    def openai(self, key: str | None = None) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.key if key is None else key)

    def upload(self, data: bytes, name: str = "rows.jsonl", **fields: str) -> httpx.Response:
        """``purpose`` is batch unless given."""
        return self.http().post("/v1/files", data={"purpose": "batch", **fields}, files={"file": (name, data)})


@pytest.fixture
def serve(settings: StoreSettings, stores: Callable[[Role], Store], tenant: Actor) -> Iterator[Callable[..., Served]]:
    """Starts the API with some of its settings changed; ends it with the test."""
    running: list[tuple[uvicorn.Server, threading.Thread, Served]] = []

    def start(**changes: object) -> Served:
        app = create_app(ApiSettings(**{**settings.model_dump(), **changes}))
        server = uvicorn.Server(
            uvicorn.Config(app, host="127.0.0.1", port=0, http=Punctual, log_config=None, access_log=False, timeout_graceful_shutdown=2)
        )
        thread = threading.Thread(target=server.run, name="api")
        thread.start()
        wait_until(lambda: server.started or not thread.is_alive(), "the API starts", START_SECONDS)
        assert server.started
        port = server.servers[0].sockets[0].getsockname()[1]
        _, key = create_api_key(stores(Role.API), tenant.tenant_id, tenant.principal_id, "tests", SCOPES)
        served = Served(f"http://127.0.0.1:{port}", key, app, tenant)
        running.append((server, thread, served))
        return served

    yield start
    for server, thread, served in running:
        for client in served.clients:
            client.close()
        server.should_exit = True
        thread.join(timeout=10)
        assert not thread.is_alive()


@pytest.fixture
def mill(stores: Callable[[Role], Store], settings: StoreSettings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mill]:
    monkeypatch.setenv("TEXTMILL_FAKE_ENGINE", "1")
    running = Mill(stores, settings)
    yield running
    running.close()


@pytest.fixture
def api(serve: Callable[..., Served]) -> Served:
    return serve()
