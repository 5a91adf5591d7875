"""The prompt of a batch: found, and held against what it is asked of and against the file's columns. Reads the store, writes nothing."""

from typing import Any, Final

from api.errors import Refused
from api.formats.header import told_columns
from db.actors import Actor
from db.audit.damage import DAMAGED
from db.catalogue.definitions import find_definition
from db.connect import Store
from db.failures import describe
from db.files.table import Table
from db.jobs.versions import PROMPTS
from workers.content.messages import PromptFault
from workers.content.prompts import Prompt, columns_meant
from workers.tasks.body import text_place
from workers.tasks.steps import STEPS
from workers.tasks.task import Task

PARAM: Final = "prompt"


def find_prompt(store: Store, actor: Actor, task: Task[Any], endpoint: str, address: str) -> Prompt:
    """What a job's prompt is called: its name, maybe with a version. Raises Refused."""
    found = find_definition(store, actor, PROMPTS, address)
    if found is None:
        raise Refused("unknown_prompt", describe("unknown_prompt").message, param=PARAM)
    if found.damaged:
        raise Refused(DAMAGED, describe(DAMAGED).message, status=409, param=PARAM)
    try:
        prompt = Prompt(found.source)
    except PromptFault as fault:  # an older version took it
        raise Refused("invalid_prompt", str(fault), param=PARAM) from None
    if not text_place(task.body_of(endpoint)).is_chat and prompt.roles != ["user"]:
        raise Refused("invalid_prompt", f"{endpoint} reads one text: a prompt for it is one text, and no messages.", param=PARAM)
    return prompt


def check_names(prompt: Prompt, table: Table | None, *, after_steps: bool) -> None:
    """``table``: None of a file that is none, or whose columns were not kept. ``after_steps``: the prompt may name them, too. Raises
    Refused."""
    if table is None:
        message = "The file has no columns to fill a prompt in with: upload a table (CSV, JSON lines, Parquet) with purpose=rows."
        raise Refused("missing_column", message, param="input_file_id")
    _, missing = columns_meant(prompt.names, [*table.names, *([STEPS] if after_steps else [])])
    if missing:
        message = f"The prompt names {told_columns(missing)}, and the file has {told_columns(table.names)}."
        raise Refused("missing_column", message, param=PARAM)
