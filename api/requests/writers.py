"""Rules and templates that a batch names as its model: found, made, and held against the columns of its file."""

from collections.abc import Collection
from typing import Any, Final
from uuid import UUID

from api.errors import Refused
from api.formats.header import told_columns
from db.actors import Actor
from db.audit.damage import DAMAGED
from db.catalogue.definitions import find_definition
from db.connect import Store
from db.failures import describe
from db.files.columns import table_of_file
from db.jobs.versions import KINDS
from workers.content.rules import Rules
from workers.content.writer import TemplateWriter
from workers.content.yaml_tree import Fault
from workers.tasks.reading import check_writer
from workers.tasks.task import Task
from workers.tasks.writers import writer_name, written_by

PARAM: Final = "defaults.model"
_ABSENT: Final = {"rules": "There are no such rules.", "templates": "There is no such template."}


def find_writer(store: Store, actor: Actor, task: Task[Any], endpoint: str, defaults: dict[str, object]) -> Rules | TemplateWriter | None:
    """None where the defaults name another model, or none. Raises Refused."""
    name = defaults.get("model")
    named = writer_name(name if isinstance(name, str) else None)
    if named is None:
        return None
    if named.kind not in task.writers:
        raise Refused("model_task_mismatch", describe("model_task_mismatch").message, param=PARAM)
    found = find_definition(store, actor, KINDS[named.kind], named.address)
    if found is None:
        raise Refused("unknown_model", _ABSENT[named.kind], param=PARAM)
    if found.damaged:
        raise Refused(DAMAGED, describe(DAMAGED).message, status=409, param=PARAM)
    if (code := check_writer(task, endpoint, defaults)) is not None:
        kind, _, rest = code.partition(":")
        raise Refused(kind, describe(code).message, param=f"defaults.{rest.partition(':')[0]}")
    try:
        return written_by(named.kind, found.source)
    except Fault as fault:  # it was taken by another version of this program
        raise Refused("invalid_definition", str(fault), param=PARAM) from None


def check_columns(store: Store, actor: Actor, file_id: UUID, wanted: Collection[str]) -> None:
    """Raises Refused where the file lacks one."""
    if not wanted:
        return
    table = table_of_file(store, actor, file_id)
    names = [] if table is None else table.names
    missing = sorted(set(wanted).difference(names))
    if missing:
        has = f"it has {told_columns(names)}" if names else "it is no table"
        looked_at = f"column{'s' if len(missing) > 1 else ''} {told_columns(missing)}"
        raise Refused("missing_column", f"The model looks at the {looked_at}, which the file lacks: {has}.", param=PARAM)
