"""The models this house knows: those of registry.toml, an operator's own folders, and those that servers run for the operator.

Light: importing it loads no engine, and the API does so too.
"""

import tomllib
from functools import cache
from pathlib import Path

from db.errors import TextmillError
from workers.models import fake_models
from workers.models.adapters import adapter_of, adapters_of
from workers.models.card import ModelCard
from workers.models.fake_models import FAKE_MODELS
from workers.models.folders import PREFIX, local_model, local_models
from workers.models.servers import server_model, server_models


def all_models() -> list[ModelCard]:
    """Every model. The fake ones, only where TEXTMILL_FAKE_ENGINE=1, come first and so are the defaults there; an operator's own, last."""
    own = [*_real_models(), *local_models()]
    adapted = [card for base in own for card in adapters_of(base)]
    return [*(FAKE_MODELS if fake_models.enabled() else ()), *own, *adapted, *server_models()]


def get(model_id: str) -> ModelCard:
    """Raises TextmillError "unknown_model", or "model_broken" where its folder or its entry cannot be used; the id is quoted only where it
    is one of ours, because a caller may have sent anything."""
    found = _found(model_id)
    if found is None and "@" in model_id:
        base_id, _, name = model_id.rpartition("@")
        base = _found(base_id)
        found = None if base is None else adapter_of(base, name)
    if found is not None and found.damaged:
        raise TextmillError(f"{found.id}: {found.damaged}", code="model_broken", status=409)
    if found is not None:
        return found
    known = ", ".join(card.id for card in all_models())
    raise TextmillError(f"No such model. Known models: {known}.", code="unknown_model", status=404)


def default_model(task: str) -> ModelCard:
    """The first model of the registry that does this task. Raises TextmillError "unknown_model"."""
    for card in all_models():
        if task in card.tasks:
            return card
    raise TextmillError("No model of the registry does this task.", code="unknown_model", status=404)


def _found(model_id: str) -> ModelCard | None:
    return _shipped(model_id) or _own(model_id)


def _shipped(model_id: str) -> ModelCard | None:
    shipped: list[ModelCard] = [*(FAKE_MODELS if fake_models.enabled() else ()), *_real_models()]
    return next((card for card in shipped if card.id == model_id), None)


def _own(model_id: str) -> ModelCard | None:
    """Asked for every row: no look at the other folders."""
    return local_model(model_id) if model_id.startswith(PREFIX) else server_model(model_id)


@cache
def _real_models() -> tuple[ModelCard, ...]:
    entries = tomllib.loads(Path(__file__).with_name("registry.toml").read_text())
    return tuple(
        ModelCard(id=model_id, **{**entry, "tasks": tuple(entry["tasks"]), "languages": tuple(entry["languages"])})
        for model_id, entry in entries.items()
    )
