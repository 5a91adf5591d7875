"""`textmill doctor`: looks at the machine, the home and its servers. Changes nothing, starts nothing, and reads no content."""

import os
from collections.abc import Callable, Collection, Iterator
from typing import Final

from api.environment import misspelt
from api.local.doctor.database import database
from api.local.doctor.finding import Finding
from api.local.doctor.folder import disk, folder, key_file, permissions, ports
from api.local.doctor.machine import graphics, limits, memory, processor, versions
from api.local.doctor.models import models
from api.local.doctor.place import Part, Place
from api.local.doctor.queue import queue
from api.local.doctor.work import examine_work
from api.local.home.home import Home
from api.settings import ApiSettings
from db.errors import SettingsError, TextmillError
from db.private_files import DAMAGED, NOT_PRIVATE
from db.settings import Role, load
from workers.settings import DispatcherSettings, WorkerSettings

Check = Callable[[Place], Iterator[Finding]]

# In the order in which a person would look.
CHECKS: Final[tuple[Check, ...]] = (
    versions, processor, graphics, memory, limits, folder, disk, permissions, key_file, ports, database, queue, models,
)  # fmt: skip
STORE: Final = frozenset({"postgres", "tables"})  # where one of these is not in order, the work cannot be asked about


def examine(home: Home, part: Part | None = None) -> list[Finding]:
    """Every check. One that fails for an unforeseen reason is a finding itself. ``part``: whose home it is, where what lies there does not
    tell."""
    given = frozenset(os.environ)
    os.environ["TEXTMILL_HOME"] = str(home.path)
    findings = list(settings(given))
    try:
        place = Place.of(home, part)
    except SettingsError as error:
        if error.code in (NOT_PRIVATE, DAMAGED):
            found, _, todo = error.message.partition(": ")
            return [*findings, Finding("secrets", False, found, f"{todo[:1].upper()}{todo[1:]}")]
        return findings if not all(each.ok for each in findings) else [*findings, Finding("home", False, error.message)]
    for check in CHECKS:
        findings.extend(_safely(check, place))
    if place.has_database and Role.DISPATCHER in place.roles and all(each.ok for each in findings if each.check in STORE):
        findings.extend(_safely(examine_work, place))
    return findings


def settings(given: Collection[str]) -> Iterator[Finding]:
    """What the environment says to each part, wherever it is read. ``given``: the names of its variables, without ours."""
    told = misspelt(given)
    for kind in (ApiSettings, WorkerSettings, DispatcherSettings):
        try:
            load(kind)
        except SettingsError as error:
            told.append(error.message)
    for each in dict.fromkeys(told):
        yield Finding("settings", False, each, "Set it right, or unset it; `textmill docs settings` lists them all.")
    if not told:
        count = sum(name.startswith("TEXTMILL_") for name in given)
        yield Finding("settings", True, f"{count} in the environment, each known")


def _safely(check: Check, place: Place) -> list[Finding]:
    findings = []
    try:
        for each in check(place):
            findings.append(each)
    except TextmillError as error:
        findings.append(Finding(check.__name__, False, error.message))
    except Exception as error:  # of a driver or the system: its text might quote a setting
        findings.append(Finding(check.__name__, False, f"could not be looked at ({type(error).__name__})"))
    return findings
