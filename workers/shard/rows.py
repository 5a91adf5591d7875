"""From the rows of a shard to the groups that one call of the runtime can take.

Bodies are parsed, names resolved (a model, a head, a label set: each asked of the store once, under the lease), and rows that cannot run
leave as ``(idx, failure code)``. Nothing here runs a model or writes.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from db.actors import Lease
from db.catalogue import heads, label_sets
from db.catalogue.heads import Head
from db.connect import Store
from db.errors import TextmillError
from db.queue.shards import OpenRow, ShardWork
from workers.models import registry
from workers.shard.pace import Pace
from workers.tasks.requests import (
    HEAD_PREFIX,
    ClassifyRequest,
    EmbedRequest,
    InvalidDefaults,
    Reader,
    Request,
    TrainingExample,
    check_labels,
)

CHARS_PER_TOKEN: Final = 6  # a generous guess: text beyond the model's window costs (almost) nothing

NO_LABELS: Final[list[str]] = []  # of a row before it is resolved, or under a head: one list for all

BadRow = tuple[int, str]
Labels = tuple[list[str], list[str] | None]


class Asked(msgspec.Struct, gc=False):
    """A row that a model will see. ``labels`` and ``templates`` are resolved: what the row, the job or a label set brought."""

    idx: int
    size: int  # of the body, in bytes: near enough to the characters that shards are cut by
    cost: int  # of those, what the model sees at most
    request: Request
    labels: list[str]
    templates: list[str] | None


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that one call of the runtime can take: same model, same head. ``named`` is what the answers call the model."""

    model: str
    head: Head | None
    named: str
    rows: list[Asked]
    own_labels: bool
    most_chars: int  # of a text that the model sees


def read_rows(lease: Lease, work: ShardWork, *, max_labels: int) -> tuple[list[Asked], list[BadRow]]:
    """The rows a model could see, not yet resolved, and the others."""
    defaults = work.spec.get("defaults") or {}
    try:
        reader = Reader(lease.task, lease.endpoint, defaults, model=lease.model, max_labels=max_labels)
    except InvalidDefaults as fault:
        return [], [(row.idx, row.defect or fault.code) for row in work.rows]
    asked: list[Asked] = []
    bad: list[BadRow] = []
    for row in work.rows:
        answer = _read_row(reader, lease, row)
        if isinstance(answer, str):
            bad.append((row.idx, answer))
        else:
            size = len(row.body or b"")
            asked.append(Asked(row.idx, size, size, answer, NO_LABELS, None))
    return asked, bad


def group_rows(store: Store, lease: Lease, asked: Sequence[Asked], *, max_labels: int) -> tuple[list[Group], list[BadRow]]:
    """Groups in the order of their first rows, each in the file's order."""
    groups: dict[str, Group] = {}
    bad: list[BadRow] = []
    resolver = Resolver(store, lease, max_labels)
    for row in asked:
        resolved = resolver.resolve(row)
        if isinstance(resolved, str):
            bad.append((row.idx, resolved))
        else:
            groups.setdefault(resolved.named, resolved).rows.append(row)
    return list(groups.values()), bad


class Uncut:
    """The rows of a shard that are not in a chunk yet; false once there are none. ``pace_of`` a model says how many make a chunk."""

    def __init__(self, groups: Sequence[Group], pace_of: Callable[[str], Pace]) -> None:
        self._groups = deque(groups)
        self._pace_of = pace_of
        self._at = 0  # in the first group

    def __bool__(self) -> bool:
        return bool(self._groups)

    def take(self) -> tuple[Group, list[Asked], Pace]:
        """The next chunk, by the speed that is known by now."""
        group = self._groups[0]
        pace = self._pace_of(group.model)
        rows = group.rows[self._at :]
        rows = rows[: pace.take([row.cost for row in rows])]
        self._at += len(rows)
        if self._at == len(group.rows):
            self._groups.popleft()
            self._at = 0
        return group, rows, pace


class Resolver:
    """What the names in a shard's rows stand for, asked of the store once each, under the lease."""

    def __init__(self, store: Store, lease: Lease, max_labels: int) -> None:
        self._store = store
        self._lease = lease
        self._max_labels = max_labels
        self._groups: dict[str, Group | str] = {}
        self._sets: dict[str, Labels | str] = {}

    def resolve(self, row: Asked) -> Group | str:
        """The row's group, the row made ready to run; or a failure code."""
        request = row.request
        assert not isinstance(request, TrainingExample)
        name = request.model
        if name is None:
            return "missing_model"
        if name not in self._groups:
            self._groups[name] = self._find_model(name)
        group = self._groups[name]
        if isinstance(group, str):
            return group
        if isinstance(request, ClassifyRequest) and group.head is None and not group.own_labels:
            found = self._labels_of(request)
            if isinstance(found, str):
                return found
            row.labels, row.templates = found
        in_windows = isinstance(request, ClassifyRequest | EmbedRequest) and request.long.on_long == "chunk"
        row.cost = row.size if in_windows else min(row.size, group.most_chars)
        return group

    def _find_model(self, name: str) -> Group | str:
        head: Head | None = None
        base = name
        if name.startswith(HEAD_PREFIX):
            if self._lease.task != "classify":
                return "model_task_mismatch"
            head = heads.load_head_for_worker(self._store, self._lease, name.removeprefix(HEAD_PREFIX))
            if head is None:
                return "unknown_model"
            base = head.base
        try:
            card = registry.get(base)
        except TextmillError:
            return "unknown_model"
        if self._lease.task not in card.tasks:
            return "model_task_mismatch"
        return Group(base, head, name, [], card.own_labels, card.max_tokens * CHARS_PER_TOKEN)

    def _labels_of(self, request: ClassifyRequest) -> Labels | str:
        if request.label_set is None:
            return (request.labels, request.templates) if request.labels is not None else "missing_labels"
        if request.label_set not in self._sets:
            self._sets[request.label_set] = self._find_label_set(request.label_set)
        found = self._sets[request.label_set]
        if isinstance(found, str):
            return found
        return found[0], request.templates or found[1]

    def _find_label_set(self, name: str) -> Labels | str:
        body = label_sets.get_label_set_for_worker(self._store, self._lease, name)
        if body is None:
            return "unknown_label_set"
        labels, templates = list(body["labels"]), body.get("templates")
        return check_labels(labels, self._max_labels) or (labels, list(templates) if templates else None)


def _read_row(reader: Reader, lease: Lease, row: OpenRow) -> Request | str:
    if row.defect is not None:
        return row.defect
    if row.endpoint is not None and row.endpoint != lease.endpoint:
        return "url_mismatch"
    if row.body is None:
        return "missing_body"
    return reader.read(row.body)
