"""What a task is: the facts and the steps that a shard of it goes through. Each of `workers/tasks/` is one."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Literal, NamedTuple, Protocol, TypeVar

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
    from workers.tasks.writers import Writer

HEAD_PREFIX: Final = "head:"
SKIPPED: Final = b'{"skipped":true}'  # the answer of a row that a step of a chain is not for
# "flag": whether something holds, and not where nothing is said; "count": of parts, 1 where nothing is said.
Columns = Mapping[str, Literal["text", "number", "scores", "vector", "flag", "count", "integer"]]
UNSAID: Final[Mapping[str, object]] = {"flag": False, "count": 1}  # what a table's cell holds of an answer that says nothing of it
LONG_TEXT: Final[Columns] = {"truncated": "flag", "chunks": "count"}
BodyT = TypeVar("BodyT", bound=Body)


@dataclass(frozen=True, slots=True)
class Group:
    """What rows have in common that one call of a model can take: ``card`` and ``head``; or, without a card, a ``writer``, which needs no
    engine. ``named`` is what their answers call the model."""

    named: str
    card: "ModelCard | None" = None
    head: "Head | None" = None
    writer: "Writer | None" = None

    @property
    def model(self) -> str:
        return self.card.id if self.card is not None else ""


class LabelSet(NamedTuple):
    """A stored set. ``address``: what its version is called, ``NAME@2``."""

    labels: list[str]
    templates: list[str] | None
    address: str
    descriptions: dict[str, str] | None = None


class Names(Protocol):
    """What the names in a shard's rows stand for, asked of the store once each, under its lease. A failure code where there is no such
    thing, or where it does not do this task."""

    def group(self, name: str | None) -> Group | str:
        """That of the rows which go to this model, or to ``head:NAME``."""

    def label_set(self, name: str) -> LabelSet | str:
        """That of this name."""


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
    """What a call of a model took, its ``rows`` being answered or failed: of a task that streams, some of those handed in; else all."""

    model_version: str
    share: "BatchShare"
    stages: "StageSeconds"
    rows: "Sequence[WorkRow]" = ()


# Answers or fails every row of those handed in, which are some of the group's. Blocks. Raises what a model raises (Stopped, EngineBroken,
# TextmillError).
Run = Callable[[Work, Group, "Sequence[WorkRow]"], Ran]
# The same as rows end: those of so many seconds together, once there are some. When the last argument says so, none is begun any more, and
# those that had not been are left as they are.
Stream = Callable[[Work, Group, "Sequence[WorkRow]", float, Callable[[], bool]], Iterator[Ran]]


class Task(ABC, Generic[BodyT]):
    """Stateless; one object a task.

    ``endpoints``: what a job of it may name. ``in_batches``: whether a batch and a line of its file may name them, or a route of their own
    makes such jobs. ``whole``: all rows of a job are one shard and one call. ``streams``: rows end one by one, some long after others.
    ``models``: the task that a card must list to run this one; None where no model is needed. ``columns``: what a row's answer is in a
    table, in order, and of what kind.
    ``laid``: the fields under which a job's defaults are laid one by one. ``names_stored``: whether rows may name heads and label sets,
    whose versions the job then pins. ``writers``: of the kinds of `workers/tasks/writers.py`, those that can answer its rows.
    """

    name: ClassVar[str]
    endpoints: ClassVar[tuple[str, ...]]
    body: ClassVar[type[Body]]
    columns: ClassVar[Columns] = {}
    laid: ClassVar[tuple[str, ...]] = ("model", "input")
    in_batches: ClassVar[bool] = True
    whole: ClassVar[bool] = False
    streams: ClassVar[bool] = False
    names_stored: ClassVar[bool] = False
    writers: ClassVar[tuple[str, ...]] = ()

    @property
    def models(self) -> str | None:
        return self.name

    def columns_of(self, *, ruled: bool) -> Columns:
        """``ruled``: of answers by rules or a template, which say what decided."""
        return {**self.columns, "rule": "text"} if ruled else self.columns

    def card_fault(self, card: "ModelCard", endpoint: str) -> str | None:
        """The failure code of a model that can do no row of this endpoint, or None."""
        return None if self.models in card.tasks else "model_task_mismatch"

    def pair_fault(self, card: "ModelCard", body: BodyT) -> str | None:
        """The failure code of what is asked of a model that is of another kind; of a row and of defaults alike."""

    def writer_fault(self, body: BodyT) -> str | None:
        """The failure code of what rules and template writers cannot be asked; of a row and of defaults alike."""

    def head_fault(self, labels: Sequence[str]) -> str | None:
        """The same of a head that was trained on these labels; asked of a task that runs on what classifies."""

    def body_of(self, endpoint: str) -> type[BodyT]:
        """The body of its rows at one of its endpoints."""
        return self.body  # type: ignore[return-value]  # a class variable knows no type parameter

    def fault(self, body: BodyT, endpoint: str, max_labels: int) -> str | None:
        """What the field types cannot say, of a row and of defaults alike: a failure code, or None."""

    def defaults_fault(self, defaults: BodyT) -> str | None:
        """What is asked once of a job's defaults, and may take a while: a failure code, or None."""

    @abstractmethod
    def ask(self, body: BodyT, defaults: BodyT, endpoint: str) -> Any:
        """What a row asks for; the failure code of what cannot be asked. Its ``model`` is the name of one.

        The job's defaults are laid under the fields that are ``laid``; of others it is the task that says how they go together.
        """

    def place(self, ask: Any, names: Names) -> Group | str:
        """The group of a row that asks this, which is then ready to run; or its failure code."""
        return names.group(ask.model)

    def decoder_cost(self, ask: Any, chars: int) -> int:
        """How many characters a decoder reads of a row that brings so many: as much it counts where chunks are cut."""
        return chars

    @cached_property
    def run(self) -> Run:
        """The function ``run`` of the file ``running`` in the task's folder, imported when rows are run: it brings numpy."""
        running: Run = self._running.run
        return running

    @cached_property
    def stream(self) -> Stream:
        """The function ``stream`` of that file, in the place of ``run``, of a task that streams."""
        running: Stream = self._running.stream
        return running

    @property
    def _running(self) -> Any:
        return import_module(f"{type(self).__module__.rpartition('.')[0]}.running")

    def told(self, answer: bytes | msgspec.Raw) -> dict[str, object]:
        """As :meth:`values`; of a row that was skipped that it was, and nothing by any column."""
        if bytes(answer) == SKIPPED:
            return {"skipped": True, **{name: None for name, kind in self.columns.items() if kind in UNSAID}}
        return self.values(answer)

    def values(self, answer: bytes | msgspec.Raw) -> dict[str, object]:
        """A row's answer by column, and whatever else a line of JSON shows."""
        return {"answer": msgspec.json.decode(answer)}
