"""Which heads and label sets a new job may meet: those that its file's rows name, and those of its defaults."""

from uuid import UUID

from db.actors import Actor
from db.catalogue.heads import list_heads
from db.catalogue.label_sets import list_label_sets
from db.catalogue.purge import KEPT_VERSIONS
from db.connect import Store
from db.files.stored_names import Names, names_of_file
from db.jobs.versions import address_of


def names_for_job(store: Store, actor: Actor, file_id: UUID, of_defaults: Names) -> Names:
    """Where it is not known what the file's rows name, that is everything that the tenant has."""
    named = names_of_file(store, actor, file_id)
    return of_defaults | (_all_names(store, actor) if named is None else named)


def _all_names(store: Store, actor: Actor) -> Names:
    """But those whose names do not open."""
    heads = [_addresses(head.name, head.version) for head in list_heads(store, actor) if head.name is not None]
    label_sets = [_addresses(found.name, found.version) for found in list_label_sets(store, actor) if found.name is not None]
    return Names(frozenset().union(*heads), frozenset().union(*label_sets))


def _addresses(name: str, newest: int) -> set[str]:
    return {name, *(address_of(name, number) for number in range(max(1, newest - KEPT_VERSIONS + 1), newest + 1))}
