"""A row as the database holds it: read as the API's login may, and not opened."""

from contextlib import closing
from typing import TYPE_CHECKING
from uuid import UUID

from db.connect import open_store
from db.files.rows import sealed_body
from db.operators.api_keys import authenticate
from db.settings import Role, StoreSettings

if TYPE_CHECKING:
    from redis import Redis


def read_sealed_body(settings: StoreSettings, key: str, file_id: str) -> bytes:
    """The ciphertext of the first row of a file (`file-<hex>`)."""
    with closing(open_store(settings, Role.API, pool_size=1)) as store:
        sealed = sealed_body(store, authenticate(store, key), UUID(file_id.removeprefix("file-")), 0)
    assert sealed is not None
    return sealed


def open_broker(settings: StoreSettings) -> "Redis":
    from redis import Redis

    return Redis.from_url(settings.broker_url())
