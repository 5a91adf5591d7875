"""Variables that look like settings of textmill and are none, each with the nearest that is one. Names alone: values may be secret."""

import re
from collections.abc import Collection
from difflib import get_close_matches
from typing import Final

from api.settings import ApiSettings
from api.spelling import rest_of
from db.settings import Role
from workers.models.folders import VARIABLE as MODEL_FOLDERS
from workers.models.servers import VARIABLE as MODEL_REGISTRY
from workers.settings import DispatcherSettings, WorkerSettings

_FIELDS: Final = frozenset(
    f"TEXTMILL_{name.upper()}" for kind in (ApiSettings, WorkerSettings, DispatcherSettings) for name in kind.model_fields
)
# Those that one place reads, as they are written here.
_OTHERS: Final = frozenset(
    {
        *(f"TEXTMILL_DB_PASSWORD_{role.name}" for role in Role),
        *(f"TEXTMILL_{name}" for name in ("API_URL", "API_KEY", "SUPERUSER_URL")),
        MODEL_FOLDERS,
        MODEL_REGISTRY,
        *(f"TEXTMILL_FAKE_{name}" for name in ("ENGINE", "DELAY_MS", "LOG")),
        *(f"TEXTMILL_{name}" for name in ("UID", "GID", "VERSION", "VARIANT", "TORCH_INDEX", "PORT")),  # of deploy/compose.yaml
        *(f"TEXTMILL_{part}_MEMORY" for part in ("API", "WORKER", "POSTGRES")),
    }
)
# What Kubernetes tells each process about services called textmill or textmill-something.
_SERVICE: Final = re.compile(r"(TEXTMILL(?:_\w+?)?)_(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT(?:_\d+_(?:TCP|UDP)(?:_\w+)?)?)")
_PREFIX: Final = "TEXTMILL_"
_OTHER_WORDS: Final = {"DB": "DATABASE", "PG": "DATABASE", "POSTGRES": "DATABASE", "BROKER": "REDIS", "VALKEY": "REDIS", "DSN": "URL"}
_ALIKE: Final = 0.6  # of what follows the prefix


def misspelt(names: Collection[str]) -> list[str]:
    """A sentence for each of these names of variables that nothing reads."""
    return [_told(name) for name in sorted(names) if rest_of(name) is not None and not _is_read(name) and not _is_service(name, names)]


def _is_read(name: str) -> bool:
    return name.upper() in _FIELDS or name in _OTHERS


def _is_service(name: str, names: Collection[str]) -> bool:
    service = _SERVICE.fullmatch(name)
    return service is not None and f"{service[1]}_SERVICE_HOST" in names


def _told(name: str) -> str:
    nearest = _nearest(name)
    return f"{name} is no setting of textmill, and nothing reads it" + (f": did you mean {nearest}?" if nearest else ".")


def _nearest(name: str) -> str | None:
    known = {each.removeprefix(_PREFIX): each for each in sorted(_FIELDS | _OTHERS)}
    word = rest_of(name) or ""
    other = "_".join(_OTHER_WORDS.get(part, part) for part in word.split("_"))
    found = [other] if other in known else get_close_matches(word, known, n=1, cutoff=_ALIKE)
    return known[found[0]] if found else None
