"""What a task is: the facts and the steps that a shard of it goes through. Each of `workers/tasks/` is one."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Literal, Protocol, TypeVar

import msgspec

from workers.tasks.body import Body

if TYPE_CHECKING:
    from db.actors import Lease
    from db.catalogue.heads import Head
    from db.connect import Store
    from db.queue.row import WorkRow
    from workers.batches.outcomes import BatchShare
    from workers.batches.ticket import Ticket
    from workers.inference.runtime import Runtime
    from workers.models.card import ModelCard
    from workers.stages import StageSeconds

CHARS_PER_TOKEN: Final = 6  # a generous guess: text beyond the model's window costs (almost) nothing
HEAD_PREFIX: Final = "head:"
Columns = Mapping[str, Literal["text", "number", "scores", "vector"]]
BodyT = TypeVar("BodyT", bound=Body)


@dataclass(slots=True)
class Group:
    """Rows that one call of a model can take: same model, same head. ``named`` is what their answers call the model; ``card`` None: they
    need none."""

    named: str
    card: "ModelCard | None" = None
    head: "Head | None" = None
    rows: "list[WorkRow]" = field(default_factory=list)

    @property
    def model(self) -> str:
        return self.card.id if self.card is not None else ""


class Names(Protocol):
    """What the names in a shard's rows stand for, asked of the store once each, under its lease. A failure code where there is no such
    thing, or where it does not do this task."""

    def group(self, name: str | None) -> Group | str:
        """The rows that go to this model, or to ``head:NAME``."""

    def label_set(self, name: str) -> tuple[list[str], list[str] | None] | str:
        """Labels and templates."""


@dataclass(frozen=True, slots=True)
class Work:
    """What the rows of a shard are run with."""

    store: "Store"
    lease: "Lease"
    ticket: "Ticket"
    spec: dict[str, Any]
    runtime: "Runtime"


@dataclass(frozen=True, slots=True)
class Ran:
    """What a call of a model took, its rows being answered or failed."""

    model_version: str
    share: "BatchShare"
    stages: "StageSeconds"


class Task(ABC, Generic[BodyT]):
    """Stateless; one object a task.

    ``endpoints``: what a job of it may name. ``in_batches``: whether a batch and a line of its file may name them, or a route of their own
    makes such jobs. ``whole``: all rows of a job are one shard and one call. ``models``: the task that a card must list to run this one;
    None where no model is needed. ``columns``: what a row's answer is in a table, in order, and of what kind.
    """

    name: ClassVar[str]
    endpoints: ClassVar[tuple[str, ...]]
    body: ClassVar[type[Body]]
    columns: ClassVar[Columns] = {}
    in_batches: ClassVar[bool] = True
    whole: ClassVar[bool] = False

    @property
    def models(self) -> str | None:
        return self.name

    def fault(self, body: BodyT, endpoint: str, max_labels: int) -> str | None:
        """What the field types cannot say, of a row and of defaults alike: a failure code, or None."""

    @abstractmethod
    def ask(self, body: BodyT, defaults: BodyT, endpoint: str) -> Any:
        """What a row asks for, with the job's defaults laid under it; or the failure code of what cannot be asked.

        Its ``model`` is the name of one."""

    def place(self, row: "WorkRow", names: Names) -> Group | str:
        """The group that a row goes with, ready to run; or its failure code."""
        group = names.group(row.ask.model)
        if not isinstance(group, str) and group.card is not None:
            row.cost = min(row.cost, group.card.max_tokens * CHARS_PER_TOKEN)
        return group

    @abstractmethod
    def run(self, work: Work, group: Group, rows: "Sequence[WorkRow]") -> Ran:
        """Answers or fails every row of ``rows``, which are some of the group's. Blocks. Raises what a model raises (Stopped, EngineBroken,
        TextmillError)."""

    def values(self, answer: bytes | msgspec.Raw) -> dict[str, object]:
        """A row's answer by column, and whatever else a line of JSON shows."""
        return {"answer": msgspec.json.decode(answer)}
