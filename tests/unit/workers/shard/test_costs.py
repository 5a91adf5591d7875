"""What a row counts where a shard is cut into chunks."""

import json
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest

from db.actors import Lease
from db.queue.row import WorkRow
from workers.models import registry
from workers.shard.reading import read_rows
from workers.tasks import TASKS
from workers.tasks.task import Group

ENDPOINT = "/v1/classifications"


@pytest.mark.parametrize(("model", "factor", "listed"), [("gemma3-270m", 2, 3 + 2 + 4), ("minilm-l6-v2", 1, 0)])
def test_a_decoders_row_counts_with_its_list_in_each_order(model: str, factor: int, listed: int) -> None:
    asked = {"input": "goal", "labels": ["one", "to"]} | ({"descriptions": {"one": "1234"}, "rotations": 9} if factor > 1 else {})
    row = WorkRow(0, body=json.dumps(asked).encode(), endpoint=ENDPOINT)
    lease = Lease(UUID(int=2), UUID(int=3), UUID(int=1), UUID(int=4), 1, 0, 1, "classify", ENDPOINT, model, None)
    names = cast(Any, SimpleNamespace(group=lambda *_: Group(model, registry.get(model))))
    read_rows(TASKS["classify"], lease, {}, [row], names, max_labels=9)
    assert row.cost == (len(row.body or b"") + listed) * factor
