"""What every route needs, made once a process: the store, the settings, the keys seen lately, the limits on threads."""

from dataclasses import dataclass
from typing import cast

import anyio
from fastapi import Request

from api.key_cache import KeyCache
from api.settings import ApiSettings
from db.connect import Store


@dataclass(slots=True)
class Front:
    """``uploads`` bounds the uploads in flight; ``store_calls`` the blocking calls that async code makes."""

    settings: ApiSettings
    store: Store
    keys: KeyCache
    uploads: anyio.CapacityLimiter
    store_calls: anyio.CapacityLimiter


def front_of(request: Request) -> Front:
    return cast(Front, request.app.state.front)
