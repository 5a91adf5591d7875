"""The database, as each login role whose password is here: whether it lets us in, can be the store's, and is at this version and under this
key."""

from collections.abc import Iterator, Mapping
from typing import Final

from api.local.doctor.finding import Finding
from api.local.doctor.place import OPENS, Place
from db.connect import ensure_key
from db.errors import AnotherKeyFile, SettingsError
from db.server.fitness import Server, look
from db.server.outages import UNANSWERED
from db.server.refusals import Refusal, refusal
from db.server.revision import NOT_MIGRATED, Version, head_revision, revision_of, serves
from db.server.versions import version_at
from db.settings import Role

MAX_CLOCK_SECONDS: Final = 2.0  # leases go by the database's clock alone; what a person reads should still agree with it


def database(place: Place) -> Iterator[Finding]:
    if not place.has_database:
        if place.needs_database:
            yield Finding(
                "postgres",
                False,
                f"{place.logins}: this home names no database, and TEXTMILL_DATABASE_URL is not set",
                "Set it as the part has it: for systemd `set -a; . /etc/textmill/textmill.env`, in a container run doctor inside.",
            )
        return
    if not place.roles:
        yield Finding("postgres", True, f"not asked: {place.part} has no login role")
        return
    try:
        servers, refusals = _ask(place)
    except SettingsError as error:  # no address
        found, _, todo = error.message.partition("; ")
        yield Finding("postgres", False, found, f"{todo[:1].upper()}{todo[1:]}")
        return
    if not (place.is_guess and servers):
        yield from _refused(place, refusals)
    if servers:
        yield from _found(place, servers)


def _ask(place: Place) -> tuple[dict[Role, Server], dict[Role, Refusal]]:
    servers: dict[Role, Server] = {}
    refusals: dict[Role, Refusal] = {}
    for role in place.roles:
        try:
            servers[role] = look(place.settings.database_url_for(role))
        except UNANSWERED as error:
            refusals[role] = refusal(error)
    return servers, refusals


def _refused(place: Place, refusals: Mapping[Role, Refusal]) -> Iterator[Finding]:
    """What several roles are told alike, once. Where it is not known whose home it is, that of the first is that of all."""
    if place.is_guess and next(iter(refusals.values())).kind == "no_password":
        yield Finding(
            "postgres",
            False,
            "no login role's password is here, nor one in TEXTMILL_DATABASE_URL",
            "Put the part's into secrets/db-api, db-worker or db-dispatcher of the home, or TEXTMILL_DB_PASSWORD_API, _WORKER or "
            "_DISPATCHER; `textmill db bootstrap` sets it.",
        )
        return
    for each in dict.fromkeys(refusals.values()):
        roles = [role for role, told in refusals.items() if told == each]
        others = "" if len(roles) == len(place.roles) or roles[0].login in each.found else f"{', '.join(role.login for role in roles)}: "
        yield Finding("postgres", False, f"{others}{each.found}", each.todo)
        if place.is_guess:
            return


def _found(place: Place, servers: Mapping[Role, Server]) -> Iterator[Finding]:
    role, server = next(iter(servers.items()))
    if server.unfit is not None:
        yield Finding("postgres", False, server.unfit.found, server.unfit.todo)
        return
    yield Finding(
        "postgres",
        not server.is_standby,
        f"PostgreSQL {server.version}"
        + (", a standby: it takes no writes" if server.is_standby else f", as {', '.join(role.login for role in servers)}"),
        "Name the primary in TEXTMILL_DATABASE_URL (with several hosts: `target_session_attrs=read-write`)." if server.is_standby else "",
    )
    yield from _set_beside(servers)
    yield Finding(
        "clock",
        server.clock_seconds <= MAX_CLOCK_SECONDS,
        f"{server.clock_seconds:.1f} s apart from the database's",
        "" if server.clock_seconds <= MAX_CLOCK_SECONDS else "Let both machines keep time with NTP.",
    )
    tables = _tables(version_at(place.settings.database_url_for(role)))
    yield tables
    opening = next((each for each in servers if each in OPENS), None)
    if tables.ok and opening is not None:
        yield from _key(place, opening)


def _set_beside(servers: Mapping[Role, Server]) -> Iterator[Finding]:
    for role, server in servers.items():
        if server.set_beside:
            yield Finding(
                "login role",
                False,
                f"{role.login} is set on the server to something of its own: {', '.join(server.set_beside)}",
                "Who runs the server may have set it so, or its database, and may leave it. If nobody did, somebody had a login: "
                "`textmill db bootstrap` with new passwords puts it right.",
            )


def _tables(version: Version | None) -> Finding:
    revision, head = revision_of(version), head_revision()
    if revision == head:
        return Finding("tables", True, f"revision {revision}")
    if revision > head and serves(version):
        return Finding("tables", True, f"revision {revision}, newer than this textmill, which it still serves")
    if revision > head:
        return Finding(
            "tables",
            False,
            f"revision {revision}, made by a newer textmill: this one brings {head}",
            "Upgrade textmill here to the version that migrated the database.",
        )
    return Finding(
        "tables",
        False,
        f"revision {revision}, older than this textmill, which brings {head}"
        if revision != NOT_MIGRATED
        else f"none, or of before this textmill, which brings revision {head}",
        "Run `textmill db migrate`, where the owner's password is.",
    )


def _key(place: Place, role: Role) -> Iterator[Finding]:
    """Whether the key file is the store's. One that is missing or damaged is told of with the home."""
    try:
        ensure_key(place.settings, role)
    except AnotherKeyFile:
        yield Finding(
            "key",
            False,
            f"{place.settings.kek_path} is not the key file that this store was sealed with: nothing opens with it",
            "Put that one there (from your backup, or from another part's home), or name it in TEXTMILL_KEK_FILE.",
        )
    except SettingsError:
        return
