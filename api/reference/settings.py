"""Every setting of every part, from the classes that read them."""

from typing import Final

from api.reference.tables import bounds_of, shown, table, type_words
from api.settings import ApiSettings
from db.settings import StoreSettings
from workers.settings import DispatcherSettings, WorkerSettings

PARTS: Final[dict[str, type[StoreSettings]]] = {
    "All parts": StoreSettings,
    "The API": ApiSettings,
    "A worker": WorkerSettings,
    "The dispatcher": DispatcherSettings,
}


def part() -> str:
    return "\n\n".join(f"### {name}\n\n{_table(kind)}" for name, kind in PARTS.items())


def _table(kind: type[StoreSettings]) -> str:
    shared = set() if kind is StoreSettings else set(StoreSettings.model_fields)
    rows = []
    for name, field in kind.model_fields.items():
        if name not in shared:
            words = ", ".join(filter(None, (type_words(field.annotation), bounds_of(field.metadata))))
            rows.append((f"`TEXTMILL_{name.upper()}`", words, shown(field.default), field.description or ""))
    return table(("variable", "type", "default", "meaning"), rows)
