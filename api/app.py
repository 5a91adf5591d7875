"""The HTTP application and its server. ``textmill api`` and ``python -m api.app`` run it."""

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread
import uvicorn
from fastapi import FastAPI

from api import errors, request_log
from api.metrics import REGISTRY
from api.request_log import RequestLog
from api.requests.addresses import NoKeys
from api.requests.front import KEPT_SIZES, Front
from api.requests.key_cache import KeyCache
from api.requests.punctual import Punctual
from api.requests.upload_slots import UploadSlots
from api.routes import (
    audit,
    batches,
    docs,
    files,
    heads,
    health,
    keys,
    label_sets,
    metrics,
    models,
    prompts,
    rows,
    rules,
    steering,
    tables,
    templates,
    timelines,
)
from api.settings import ApiSettings
from db.connect import ensure_key, open_store
from db.queue.wakeups import Bell
from db.recent import Recent
from db.server.versions import ensure_current
from db.settings import Role, StoreSettings, load
from workers.host.garbage_collection import calm_the_collector

DEFAULT_PORT = 8910
RESOURCES = (
    files,
    batches,
    tables,
    steering,
    timelines,
    rows,
    models,
    label_sets,
    prompts,
    rules,
    templates,
    heads,
    audit,
    keys,
    health,
    metrics,
    docs,
)


def create_app(settings: StoreSettings | None = None) -> FastAPI:
    """Opens the store when it starts and closes it when it ends. FastAPI's own docs are off: they load scripts from elsewhere."""
    chosen = load(ApiSettings) if settings is None else ApiSettings.over(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = chosen.store_threads  # plain route functions run there
        store = open_store(chosen, Role.API, pool_size=chosen.store_threads)
        REGISTRY.tell_fit(store.schema)
        app.state.front = front = Front(
            settings=chosen,
            store=store,
            bell=Bell(store),
            keys=KeyCache(chosen.key_cache_seconds),
            sizes=Recent(KEPT_SIZES),
            uploads=UploadSlots(chosen.max_uploads, chosen.max_tenant_uploads, chosen.upload_idle_seconds),
            store_calls=anyio.CapacityLimiter(chosen.store_threads),
        )
        try:
            yield
        finally:
            await front.uploads.close()
            front.bell.close()
            store.close()

    request_log.quiet()
    app = FastAPI(title="textmill", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.add_middleware(NoKeys)
    app.add_middleware(RequestLog)
    errors.install(app)
    for resource in RESOURCES:
        app.include_router(resource.router)
    return app


def serve(settings: StoreSettings | None = None, host: str = "127.0.0.1", port: int = DEFAULT_PORT) -> None:
    """Runs until SIGTERM or SIGINT. Raises SettingsError where the database is at another version, or under another key."""
    request_log.set_up()
    chosen = load(ApiSettings) if settings is None else ApiSettings.over(settings)
    ensure_current(chosen.database_url_for(Role.API))
    ensure_key(chosen, Role.API)
    request_log.log.info("serving", extra={"fields": {"host": host, "port": port}})
    calm_the_collector()
    uvicorn.run(
        create_app(chosen),
        host=host,
        port=port,
        http=Punctual,
        log_config=None,
        access_log=False,  # its lines hold addresses; RequestLog writes ours
        server_header=False,
        proxy_headers=bool(chosen.forwarded_from),
        forwarded_allow_ips=chosen.forwarded_from or None,
        timeout_graceful_shutdown=chosen.shutdown_seconds,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m api.app", description="Serves the HTTP API.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT)
    arguments = parser.parse_args()
    serve(None, arguments.host, arguments.port)


if __name__ == "__main__":
    main()
