"""Rules and template writers as models: ``rules:NAME`` and ``template:NAME``, each maybe with its version. They need no engine. Light."""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID

from workers.content.cells import Row
from workers.content.filling import Unanswered, Written
from workers.content.rules import Rules
from workers.content.writer import TemplateWriter
from workers.content.yaml_tree import Fault
from workers.logs import place_of

if TYPE_CHECKING:
    from db.queue.row import WorkRow

RULES_PREFIX: Final = "rules:"
TEMPLATE_PREFIX: Final = "template:"
PREFIXES: Final = (RULES_PREFIX, TEMPLATE_PREFIX)
KEPT: Final = 64  # that were made of their sources lately

log = logging.getLogger("textmill.shard")


class WriterName(NamedTuple):
    """``kind``: as a job's pins call it, ``rules`` or ``templates``; ``address``: its name, maybe with a version."""

    kind: str
    address: str


def writer_name(model: str | None) -> WriterName | None:
    """None of any other model."""
    if model is None or not model.startswith(PREFIXES):
        return None
    prefix, _, address = model.partition(":")
    return WriterName("rules" if prefix == "rules" else "templates", address)


def written_by(kind: str, source: str) -> Rules | TemplateWriter:
    """Raises Fault."""
    return Rules(source) if kind == "rules" else TemplateWriter(source)


@dataclass(frozen=True, slots=True)
class Writer:
    """``version``: what its answers and results call it: the kind, the number and the id of the version, and no name."""

    version: str
    made: Rules | TemplateWriter

    @classmethod
    def of(cls, kind: str, version_id: UUID, number: int, source: str) -> "Writer | str":
        """Or the failure code of its rows."""
        try:
            return cls(f"{kind}@{number}:{version_id.hex[:12]}", _made(version_id, kind, source))
        except Fault:  # it was taken by another version of this program
            return "definition_broken"

    @property
    def draws(self) -> bool:
        """Whether another seed may give another text."""
        return isinstance(self.made, TemplateWriter)

    def write(self, row: "WorkRow", text: str, *, seed: int = 0) -> Written | str:
        """Or the row's failure code."""
        if row.columns is None and self.made.columns:  # a prompt came in their place, say: they are not taken for empty ones
            return "columns_unread"
        looked_at = Row(row.columns or {}, text)
        try:
            if isinstance(self.made, Rules):
                return self.made.decide(looked_at)
            return self.made.write(looked_at, seed=seed, number=row.idx)
        except Unanswered as none:
            return none.code
        except Exception as error:  # a fault of ours, whose message may hold the row
            log.error("a row could not be written: %s at %s", type(error).__name__, place_of(error))
            return "engine_error"


def is_ruled(model: str | None, kinds: Collection[str]) -> bool:
    """Whether a job of this model is answered by rules or a template: a job without a model is. ``kinds``: those that its task takes."""
    return model is None and bool(kinds)


def ruled(rule: str | None) -> dict[str, object]:
    """What a table says of it."""
    return {} if rule is None else {"rule": rule}


@lru_cache(maxsize=KEPT)
def _made(_version_id: UUID, kind: str, source: str) -> Rules | TemplateWriter:
    """By its id, too, which is one tenant's: equal ones of two are made twice."""
    return Rules(source, tested=True) if kind == "rules" else TemplateWriter(source)
