"""Which revision of the database this program is of, and with which ones it may work. Pure but for a look at the migrations' names.

The database says its revision, and which is the oldest one whose programs may go on beside it: a migration that only adds names an older
one than itself (``oldest_program`` in its file), any other ends the support of the programs before it. db/server/migrate.py writes it down.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from db.errors import AnotherSchema

Version = Mapping[str, str | None]  # a row of alembic_version
NOT_MIGRATED: Final = ""
_VERSIONS: Final = Path(__file__).parents[1] / "migrations" / "versions"


@cache
def head_revision() -> str:
    """The revision that this version brings: its files are numbered in the order of the chain."""
    return max(path.stem.partition("_")[0] for path in _VERSIONS.glob("[0-9]*.py"))


def revision_of(version: Version | None) -> str:
    """NOT_MIGRATED where the database has none."""
    return (version or {}).get("version_num") or NOT_MIGRATED


def serves(version: Version | None) -> bool:
    """Whether this program may work with a database at ``version``."""
    revision, head = revision_of(version), head_revision()
    return revision == head or (revision > head and ((version or {}).get("oldest_program") or revision) <= head)


def ensure_works(version: Version | None) -> None:
    """Raises AnotherSchema where this program must not touch the database."""
    if serves(version):
        return
    if revision_of(version) < head_revision():
        raise AnotherSchema("The database is older than this textmill: run `textmill db migrate` first.", code="older_database")
    raise newer_database()


def newer_database() -> AnotherSchema:
    return AnotherSchema("The database was made by a newer textmill: upgrade this one, or restore an older backup.", code="newer_home")
