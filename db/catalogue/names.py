"""What its tenant named that a new job may meet: those that its file's rows name, and those of its defaults."""

from collections.abc import Callable, Sequence
from typing import NamedTuple
from uuid import UUID

from db.actors import Actor
from db.catalogue.definitions import DefinitionRecord, definition_versions, list_definitions
from db.catalogue.heads import HeadRecord, head_versions, list_heads
from db.catalogue.label_sets import LabelSetRecord, label_set_versions, list_label_sets
from db.catalogue.purge import KEPT_VERSIONS
from db.connect import Store
from db.files.stored_names import Names, names_of_file
from db.jobs.versions import RULES, TEMPLATES, Kind, address_of

_Named = HeadRecord | LabelSetRecord | DefinitionRecord
_Versions = Callable[[Store, Actor, str], Sequence[_Named]]


class JobNames(NamedTuple):
    """``named``: by the job's defaults and, where that is known, by its file's rows; None of a task whose rows name none. ``others``: where
    it is not known, everything that the tenant has."""

    named: Names | None
    others: Names | None


def names_for_job(store: Store, actor: Actor, file_id: UUID, of_defaults: Names) -> JobNames:
    of_rows = names_of_file(store, actor, file_id)
    return JobNames(of_defaults, _all_names(store, actor)) if of_rows is None else JobNames(of_defaults | of_rows, None)


def _all_names(store: Store, actor: Actor) -> Names:
    """But those whose names do not open."""
    heads = [_addresses(store, actor, head, head_versions) for head in list_heads(store, actor)]
    label_sets = [_addresses(store, actor, found, label_set_versions) for found in list_label_sets(store, actor)]
    rules, templates = _defined(store, actor, RULES), _defined(store, actor, TEMPLATES)
    return Names(frozenset().union(*heads), frozenset().union(*label_sets), rules=rules, templates=templates)


def _defined(store: Store, actor: Actor, kind: Kind) -> frozenset[str]:
    def versions(store: Store, actor: Actor, name: str) -> Sequence[DefinitionRecord]:
        return definition_versions(store, actor, kind, name)

    return frozenset().union(*(_addresses(store, actor, found, versions) for found in list_definitions(store, actor, kind)))


def _addresses(store: Store, actor: Actor, newest: _Named, versions: _Versions) -> set[str]:
    """The name alone and with each number that is kept. Of few versions any number may be; of more it is asked which ones are there."""
    name = newest.name
    if name is None:
        return set()
    few = newest.version <= KEPT_VERSIONS
    numbers = range(1, newest.version + 1) if few else [found.version for found in versions(store, actor, name)[:KEPT_VERSIONS]]
    return {name, *(address_of(name, number) for number in numbers)}
