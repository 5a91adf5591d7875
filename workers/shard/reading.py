"""From the opened rows of a shard to the groups that one call of a model can take. Nothing here runs a model or writes."""

from collections.abc import Mapping, Sequence
from typing import Any

from db.actors import Lease
from db.queue.row import WorkRow
from workers.shard.names import StoredNames
from workers.tasks.reading import InvalidDefaults, Reader
from workers.tasks.task import Group, Task


def read_rows(
    task: Task[Any], lease: Lease, spec: Mapping[str, Any], rows: Sequence[WorkRow], names: StoredNames, *, max_labels: int
) -> list[Group]:
    """Groups in the order of their first rows, each in the file's order. Rows that cannot run have failed."""
    try:
        reader = Reader(task, lease.endpoint, spec.get("defaults") or {}, model=lease.model, max_labels=max_labels)
    except InvalidDefaults as fault:
        for row in rows:
            row.fail(row.code or fault.code)
        return []
    for row in rows:
        reader.read(row)
        if row.code is None:
            group = task.place(row, names)
            if isinstance(group, str):
                row.fail(group)
            else:
                group.rows.append(row)
    return names.groups()
