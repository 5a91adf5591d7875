"""What every route needs, made once a process: the store, the settings, the keys seen lately, the limits on threads."""

from dataclasses import dataclass, field, replace
from typing import Final, cast

import anyio
from fastapi import Request

from api.requests.key_cache import KeyCache
from api.requests.upload_slots import UploadSlots
from api.settings import ApiSettings
from db.connect import Store
from db.jobs.file_lists import ResultFile
from db.operators.backlog import Backlogs
from db.queue.wakeups import Bell
from db.recent import Recent

KEPT_SIZES: Final = 100_000


@dataclass(slots=True)
class Front:
    """``sizes``, in bytes, of result files that do not change any more: each is counted once a process. ``store_calls`` bounds the blocking
    calls that async code makes. ``bell`` wakes the dispatcher."""

    settings: ApiSettings
    store: Store
    bell: Bell
    keys: KeyCache
    sizes: Recent[ResultFile, int]
    uploads: UploadSlots
    store_calls: anyio.CapacityLimiter
    backlogs: Backlogs = field(default_factory=Backlogs)


def front_of(request: Request) -> Front:
    """The process's, with a store whose transactions wait no longer than this request may, all together."""
    front = cast(Front, request.app.state.front)
    return replace(front, store=front.store.within(request.state.patience))
