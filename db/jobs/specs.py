"""A job's spec: the sealed half of it, which says what runs over its rows: defaults laid under every body, a head's name, and the
versions that it began with."""

import json
from typing import Any
from uuid import UUID

from db.sealing.cells import Sealer


def open_spec(sealer: Sealer, job_id: UUID, sealed: bytes) -> dict[str, Any]:
    spec: dict[str, Any] = json.loads(sealer.open("job_specs.spec", job_id, sealed))
    return spec
