"""What the names in a shard's rows stand for: a model, a head, a set of labels; each asked of the store once, under the lease."""

from typing import Any

from db.actors import Lease
from db.catalogue import heads, label_sets
from db.connect import Store
from db.errors import TextmillError
from workers.models import registry
from workers.tasks.reading import check_labels
from workers.tasks.task import HEAD_PREFIX, Group, Task

LabelSet = tuple[list[str], list[str] | None]


class StoredNames:
    """:class:`workers.tasks.task.Names`, of one shard."""

    def __init__(self, store: Store, lease: Lease, task: Task[Any], *, max_labels: int) -> None:
        self._store = store
        self._lease = lease
        self._models = task.models
        self._max_labels = max_labels
        self._groups: dict[str, Group | str] = {}
        self._sets: dict[str, LabelSet | str] = {}

    def group(self, name: str | None) -> Group | str:
        if self._models is None:
            name = self._lease.task
        if name is None:
            return "missing_model"
        if name not in self._groups:
            self._groups[name] = Group(name) if self._models is None else self._find_model(name, self._models)
        return self._groups[name]

    def label_set(self, name: str) -> LabelSet | str:
        if name not in self._sets:
            self._sets[name] = self._find_label_set(name)
        return self._sets[name]

    def _find_model(self, name: str, task: str) -> Group | str:
        head: heads.Head | None = None
        base = name
        if name.startswith(HEAD_PREFIX):
            if task != "classify":
                return "model_task_mismatch"
            head = heads.load_head_for_worker(self._store, self._lease, name.removeprefix(HEAD_PREFIX))
            if head is None:
                return "unknown_model"
            base = head.base
        try:
            card = registry.get(base)
        except TextmillError:
            return "unknown_model"
        return Group(name, card, head) if task in card.tasks else "model_task_mismatch"

    def _find_label_set(self, name: str) -> LabelSet | str:
        body = label_sets.get_label_set_for_worker(self._store, self._lease, name)
        if body is None:
            return "unknown_label_set"
        labels, templates = list(body["labels"]), body.get("templates")
        return check_labels(labels, self._max_labels) or (labels, list(templates) if templates else None)
