"""Whose home it is that is looked at: the part that runs from it, the login roles it has passwords of, and the servers that it names."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal, Self

from api.local.home.home import Home
from api.local.home.instance import ProcessName, find_running
from db.settings import Role, StoreSettings, load

Part = Literal["api", "worker", "dispatcher", "flower", "migrate"]

ROLES: Final[dict[Part, Role]] = {"api": Role.API, "worker": Role.WORKER, "dispatcher": Role.DISPATCHER, "migrate": Role.OWNER}
RUNNING: Final = (Role.API, Role.WORKER, Role.DISPATCHER)
OPENS: Final = frozenset({Role.API, Role.WORKER})  # with the key file
QUEUES: Final = frozenset({Role.WORKER, Role.DISPATCHER})


@dataclass(frozen=True, slots=True)
class Place:
    """``part``: None for several in one home. ``roles``: those to log in as; where no password was given for any (``is_guess``), those that
    may get in without. ``is_up``: `textmill up` made this home, or will. ``has_database``, ``has_queue``: an address is there, and of an
    embedded server only while it runs."""

    home: Home
    settings: StoreSettings
    part: Part | None
    roles: tuple[Role, ...]
    is_guess: bool
    is_up: bool
    running: ProcessName | None
    has_database: bool
    has_queue: bool

    @classmethod
    def of(cls, home: Home, part: Part | None = None) -> Self:
        """``part``: as somebody says; otherwise what is there tells. Raises SettingsError."""
        settings, running = load(StoreSettings), find_running(home)
        is_up = home.version_file.exists() or not home.path.exists()
        known = [role for role in Role if settings.password_of(role)]
        has_queue = bool(settings.redis_url) or _says(home, "redis.url", is_up, running)
        part = part or _part(home, settings, known, has_queue)
        if part == "flower":
            roles: tuple[Role, ...] = ()
        else:
            roles = (ROLES[part],) if part else tuple(known) or RUNNING
        return cls(
            home,
            settings,
            part,
            roles,
            is_guess=part is None and not known,
            is_up=is_up,
            running=running,
            has_database=bool(settings.database_url) or _says(home, "database.url", is_up, running),
            has_queue=has_queue,
        )

    @property
    def logins(self) -> str:
        return ", ".join(role.login for role in self.roles)

    @property
    def is_embedded(self) -> bool:
        """Whether the database is one that `textmill up` brings along."""
        return self.is_up and not self.settings.database_url

    @property
    def needs_database(self) -> bool:
        return bool(self.roles) and not self.is_embedded

    @property
    def needs_queue(self) -> bool:
        return not self.is_up and not self.is_guess and (self.part == "flower" or bool(QUEUES & {*self.roles}))

    @property
    def needs_key(self) -> bool:
        """Whether something that runs from here opens what is sealed. A home that nothing was made in yet gets its key."""
        if self.is_up and self.part is None:
            return (self.home.path / "tenant").exists()
        return not self.is_guess and bool(OPENS & {*self.roles})

    @property
    def runs_models(self) -> bool:
        return self.part in (None, "worker")


def _says(home: Home, name: str, is_up: bool, running: ProcessName | None) -> bool:
    """Whether ``run`` names a server. One of a stack that ended without a word is no server any more."""
    return (home.run / name).exists() and (running is not None or not is_up)


def _part(home: Home, settings: StoreSettings, known: Collection[Role], has_queue: bool) -> Part | None:
    """Whose secrets are here (deploy/make-secrets lays each part's into a home of its own), where they are one's alone."""
    parts = [part for part, role in ROLES.items() if role in known]
    if len(parts) == 1:
        return parts[0]
    has_key = settings.kek_path.exists()
    if len(parts) == len(ROLES) and not has_key and not has_queue:
        return "migrate"
    # Beside the others Flower has its configuration in its home; in a container of its own it is told of no database.
    if not parts and not has_key and ((home.path / "flower.py").exists() or (has_queue and not settings.database_url)):
        return "flower"
    return None
