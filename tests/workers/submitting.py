"""Files and jobs for the tests of the mill, put in through the store's own doors."""

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from db.actors import Actor
from db.catalogue.names import JobNames, names_for_job
from db.connect import Store
from db.files import files
from db.files.rows import NewRow, RowWriter
from db.files.stored_names import Names
from db.jobs.creating import NewJob, create_job

LABELS = ["sport", "politics", "business", "tech"]
ENDPOINTS = {"classify": "/v1/classifications", "generate": "/v1/chat/completions", "embed": "/v1/embeddings", "train": "/v1/heads"}
MODELS = {"classify": "fake-encoder", "generate": "fake-decoder", "embed": "fake-encoder", "train": "fake-encoder"}
DEFAULTS: dict[str, dict[str, object]] = {"classify": {"labels": LABELS, "templates": ["{}"]}}


def upload(api: Store, actor: Actor, new_rows: Sequence[NewRow]) -> UUID:
    file = files.create_file(api, actor, name="texts.jsonl", purpose="batch")
    writer = RowWriter(api, actor, file)
    writer.append(new_rows)
    writer.finish(sum(row.size for row in new_rows))
    return file.file_id


def row(at: int, body: object, *, endpoint: str | None = None, defect: str | None = None) -> NewRow:
    """One line; ``body`` is bytes, or what becomes JSON."""
    raw = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    return NewRow(line=at + 1, endpoint=endpoint, defect=defect, custom_id=f"row-{at}", body=raw, size=len(raw or b""))


def submit(
    api: Store,
    actor: Actor,
    new_rows: Sequence[NewRow],
    *,
    task: str = "classify",
    model: str | None = None,
    defaults: Mapping[str, object] | None = None,
    head_id: UUID | None = None,
    head_name: str | None = None,
    priority: int = 0,
    names: Names | None = None,
    endpoint: str | None = None,
) -> UUID:
    """``names``: heads and label sets that the job may name; by default all, for nobody noted which its rows name."""
    file_id = upload(api, actor, new_rows)
    spec: dict[str, object] = {"defaults": dict(DEFAULTS.get(task, {}) if defaults is None else defaults)}
    if head_name is not None:
        spec["head_name"] = head_name
    noted = JobNames(names, None) if names is not None or task != "classify" else names_for_job(api, actor, file_id, Names())
    new = NewJob(
        task=task,
        endpoint=endpoint or ENDPOINTS[task],
        file_id=file_id,
        model=model or MODELS[task],
        spec=spec,
        metadata=None,
        priority=priority,
        completion_window=timedelta(seconds=3600),
        head_id=head_id,
        names=noted.named,
        other_names=noted.others,
    )
    return create_job(api, actor, new).job_id
