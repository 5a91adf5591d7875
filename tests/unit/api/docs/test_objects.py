"""Every field of ours that the API answers with is on a page."""

import re
import types
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Union, get_origin, get_type_hints
from uuid import UUID

import pytest

from api import objects
from api.docs.pages import find
from api.routes import audit, definitions, heads, keys, label_sets, models
from api.wire import ShardLine, StateTotal, Story, WorkerTotal
from db.audit.reading import AuditEvent
from db.catalogue.definitions import DefinitionRecord
from db.catalogue.heads import HeadRecord
from db.catalogue.label_sets import LabelSetRecord
from db.files.files import FileRecord
from db.jobs.file_lists import result_file
from db.jobs.jobs import JobRecord
from db.jobs.versions import PROMPTS
from db.operators.api_keys import ApiKeyRecord
from workers.models import registry

VALUES: dict[object, object] = {UUID: UUID(int=7), datetime: datetime(2026, 1, 31, tzinfo=UTC), bool: True, int: 3, str: "x"}
OPENAI_S = {
    *("id", "object", "bytes", "created_at", "expires_at", "filename", "purpose", "status", "status_details", "created", "owned_by"),
    *("endpoint", "errors", "input_file_id", "completion_window", "output_file_id", "error_file_id", "request_counts", "usage", "metadata"),
    *(f"{state}_at" for state in ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")),
}  # what its own documentation tells of


def some(kind: Any) -> Any:
    """A record; what may be None is."""

    def value(hint: Any) -> object:
        origin = get_origin(hint)
        return None if origin in (Union, types.UnionType) else VALUES[hint] if origin is None else origin()

    return kind(**{name: value(hint) for name, hint in get_type_hints(kind).items()})


def fields_of(answer: Mapping[str, object]) -> Iterator[str]:
    """Ours below `textmill` by their whole name, as the pages write them."""
    for name, value in answer.items():
        if name == "textmill" and isinstance(value, dict):
            yield from (f"textmill.{each}" for each in value)
        elif name not in OPENAI_S:
            yield name


ANSWERS: list[tuple[str, str, Mapping[str, object]]] = [
    ("file", "http", objects.file_object(some(FileRecord))),
    ("result file", "http", objects.result_file_object(result_file(some(JobRecord), "output"), 0, exact=False)),
    ("batch", "jobs", objects.batch_object(some(JobRecord))),
    ("model", "http", models._registry_model(registry.default_model("classify"), 1)),
    ("head as a model", "http", models._head_model(some(HeadRecord))),
    ("head", "http", heads.head_object(some(HeadRecord))),
    ("label set", "http", label_sets._object(some(LabelSetRecord))),
    ("definition", "http", definitions._object(PROMPTS, some(DefinitionRecord))),
    ("key", "http", keys._object(some(ApiKeyRecord))),
    ("audit event", "keys", audit._object(some(AuditEvent))),
    ("list", "http", objects.list_object([], has_more=False)),
    ("deleted", "http", objects.deleted_object("x", "file")),
    *((kind.__name__, "http", dict.fromkeys(kind.__struct_fields__)) for kind in (Story, ShardLine, StateTotal, WorkerTotal)),
]


@pytest.mark.parametrize(("name", "topic", "answer"), ANSWERS, ids=[name for name, _, _ in ANSWERS])
def test_a_field_of_an_answer_is_on_its_page(name: str, topic: str, answer: Mapping[str, object]) -> None:
    page = find(topic)
    assert page is not None
    assert set(fields_of(answer)) - set(re.findall(r"`([\w.]+)`", page.text)) == set()


def test_the_page_of_jobs_names_no_field_that_a_batch_does_not_have() -> None:
    page = find("jobs")
    assert page is not None
    told = set(re.findall(r"`(textmill\.[a-z_]+)`", page.text))
    assert told
    assert told <= set(fields_of(objects.batch_object(some(JobRecord))))
