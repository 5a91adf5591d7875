"""JSON bodies: how long one was on its way is not taken from what its request may wait for."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import msgspec
from fastapi import FastAPI, Request

from api.requests.front import Front
from api.requests.json_body import json_of
from api.settings import ApiSettings
from db.connect import Patience, Store


class Asked(msgspec.Struct):
    name: str


def test_a_body_that_comes_slowly_leaves_its_request_all_its_patience() -> None:
    now = 0.0
    patience = Patience(4.0, lambda: now)
    app = FastAPI()
    settings = cast(ApiSettings, SimpleNamespace(max_json_bytes=1000))
    store = cast(Store, SimpleNamespace(within=lambda _: None))
    app.state.front = Front(settings, store, *[cast(Any, None)] * 5)

    async def receive() -> dict[str, object]:
        nonlocal now
        now += 5.0
        return {"type": "http.request", "body": b'{"name": "n"}', "more_body": False}

    scope = {"type": "http", "app": app, "headers": [], "state": {"patience": patience}}
    assert asyncio.run(json_of(Asked)(Request(scope, receive))) == Asked("n")
    assert patience.lock_timeout_ms() == 4000
