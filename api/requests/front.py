"""What every route needs, made once a process: the store, the settings, the keys seen lately, the limits on threads."""

from dataclasses import dataclass, replace
from typing import cast

import anyio
from fastapi import Request

from api.requests.key_cache import KeyCache
from api.requests.size_cache import SizeCache
from api.requests.upload_slots import UploadSlots
from api.settings import ApiSettings
from db.connect import Store
from db.queue.wakeups import Bell


@dataclass(slots=True)
class Front:
    """``store_calls`` bounds the blocking calls that async code makes. ``bell`` wakes the dispatcher."""

    settings: ApiSettings
    store: Store
    bell: Bell
    keys: KeyCache
    sizes: SizeCache
    uploads: UploadSlots
    store_calls: anyio.CapacityLimiter


def front_of(request: Request) -> Front:
    """The process's, with a store whose transactions wait no longer than this request may, all together."""
    front = cast(Front, request.app.state.front)
    return replace(front, store=front.store.within(request.state.patience))
