"""What the names in a shard's rows stand for: a model, a head, rules, a template, a set of labels; and its job's prompt. Each is asked of
the store once, under the lease.

But for models they are the versions that the job's spec pins, whatever has been made of their names since.
"""

from collections.abc import Mapping
from typing import Any

from db.actors import Lease
from db.catalogue import definitions, heads, label_sets
from db.connect import Store
from db.errors import SealError, TextmillError
from db.jobs.pins import Pins
from db.jobs.versions import KINDS, PROMPTS, Version, address_of
from workers.content.messages import PromptFault
from workers.content.prompts import Prompt
from workers.models import registry
from workers.tasks.reading import check_labels
from workers.tasks.task import HEAD_PREFIX, Group, LabelSet, Task
from workers.tasks.writers import Writer, writer_name


class StoredNames:
    """:class:`workers.tasks.task.Names`, of one shard."""

    def __init__(self, store: Store, lease: Lease, task: Task[Any], spec: Mapping[str, Any], *, max_labels: int) -> None:
        self._store = store
        self._lease = lease
        self._task = task
        self._models = task.models
        self._pins = Pins.of(spec)
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

    def prompt(self, address: str) -> Prompt | str:
        """Compiled for one thread, or a failure code."""
        pinned = None if self._pins is None else self._pins.prompts.get(address)
        if pinned is None:
            return "unknown_prompt"
        try:
            source = definitions.get_definition_for_worker(self._store, self._lease, PROMPTS, address, pinned)
            return "version_gone" if source is None else Prompt(source)
        except SealError as error:
            return error.code
        except PromptFault:  # it was taken by another version of this program
            return "prompt_failed"

    def _find_model(self, name: str, task: str) -> Group | str:
        if (written := writer_name(name)) is not None:
            return self._find_writer(name, *written)
        head: heads.Head | None = None
        base = name
        if name.startswith(HEAD_PREFIX):
            if task != "classify":
                return "model_task_mismatch"
            found = self._find_head(name.removeprefix(HEAD_PREFIX))
            if isinstance(found, str):
                return found
            head, base = found, found.base
        try:
            card = registry.get(base)
        except TextmillError as error:
            return error.code
        code = None if head is not None else self._task.card_fault(card, self._lease.endpoint)
        return Group(name, card, head) if code is None else code

    def _find_writer(self, name: str, kind: str, address: str) -> Group | str:
        if kind not in self._task.writers:
            return "model_task_mismatch"
        pinned: Version | None = None if self._pins is None else getattr(self._pins, kind).get(address)
        if pinned is None:
            return "unknown_model"
        try:
            source = definitions.get_definition_for_worker(self._store, self._lease, KINDS[kind], address, pinned)
        except SealError as error:
            return error.code
        writer = "version_gone" if source is None else Writer.of(kind, pinned.id, pinned.number, source)
        return writer if isinstance(writer, str) else Group(name, writer=writer)

    def _find_head(self, name: str) -> heads.Head | str:
        pinned = None if self._pins is None else self._pins.heads.get(name)
        if self._names_nothing(pinned):
            return "unknown_model"
        try:
            head = heads.load_head_for_worker(self._store, self._lease, name, pinned)
        except SealError as error:
            return error.code
        return head or ("unknown_model" if pinned is None else "version_gone")

    def _find_label_set(self, name: str) -> LabelSet | str:
        pinned = None if self._pins is None else self._pins.label_sets.get(name)
        if self._names_nothing(pinned):
            return "unknown_label_set"
        try:
            body = label_sets.get_label_set_for_worker(self._store, self._lease, name, pinned)
        except SealError as error:
            return error.code
        if body is None:
            return "unknown_label_set" if pinned is None else "version_gone"
        labels, templates = list(body["labels"]), body.get("templates")
        address = address_of(body["name"], body["version"])
        found = LabelSet(labels, list(templates) if templates else None, address, body.get("descriptions"))
        return check_labels(labels, self._max_labels) or found

    def _names_nothing(self, pinned: Version | None) -> bool:
        """Whether a name meant nothing when the job was made, of a job that pins what its names mean."""
        return self._pins is not None and pinned is None
