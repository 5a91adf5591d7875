"""What a table's columns are called and hold: noted while it is uploaded, so that results can be joined to it.

A row's cells are kept as they came, but for its text, which is its body's. How they are put back is the front's affair (``api/tables``).
"""

from typing import Final
from uuid import UUID

import msgspec

from db.actors import Actor
from db.connect import Store
from db.files.described import read_described
from db.files.table import Table
from db.sealing.cells import Sealer

_encode: Final = msgspec.json.Encoder().encode
decode_table: Final = msgspec.json.Decoder(Table).decode


def seal_table(sealer: Sealer, file_id: UUID, table: Table | None) -> bytes | None:
    return None if table is None else sealer.seal("files.columns", file_id, _encode(table))


def table_of_file(store: Store, actor: Actor, file_id: UUID) -> Table | None:
    """None of a file that was no table, or was uploaded before columns were kept; that is gone; and where what was noted does not open."""
    opened = read_described(store, actor, file_id, "columns.read", "columns")
    return None if opened is None else decode_table(opened)
