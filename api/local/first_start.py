"""What must be there before the parts start: the key file, login roles, tables, and a tenant with a key for whoever sits at this machine.

Every step looks first and may be cut off anywhere: the next start goes on from there.
"""

import os
from contextlib import closing
from pathlib import Path
from uuid import UUID, uuid4

from sqlalchemy import URL

from api.local.home.home import Home
from api.local.home.refusals import StackError, StackExit
from api.local.home.secret_files import read_or_make, write_private
from db.connect import Store, open_store
from db.errors import Denied, NotFound, SettingsError
from db.operators.api_keys import SCOPES, authenticate, create_api_key
from db.operators.tenants import create_tenant, first_tenant
from db.private_files import make_private_folder, read_private
from db.sealing.keys import LocalKeyFile
from db.server.migrate import bootstrap, current_revision, migrate
from db.server.outages import UNANSWERED
from db.server.refusals import refusal
from db.settings import Role, StoreSettings

LOCAL_TENANT = "local"


def role_passwords(home: Home) -> dict[Role, str]:
    """Of the login roles, from where every part looks for them; made where they are missing. Raises OSError."""
    passwords = {role: os.environ.get(f"TEXTMILL_DB_PASSWORD_{role.name}") for role in Role}
    if not all(passwords.values()):
        make_private_folder(home.secrets)
    return {role: given or read_or_make(home.secrets / f"db-{role.value}") for role, given in passwords.items()}


def make_roles(home: Home, superuser_url: URL) -> None:
    """Login roles and the database, on a server where we are superuser."""
    bootstrap(superuser_url, role_passwords(home))


def make_tables(settings: StoreSettings) -> None:
    """The key file where the database is new, then the migrations. StackError says what to do where it cannot be done."""
    url = settings.database_url_for(Role.OWNER)
    try:
        made_before = current_revision(url) is not None
        _make_key_file(settings.kek_path, made_before)
        migrate(url, lambda: LocalKeyFile.load(settings.kek_path))
    except UNANSWERED as error:
        raise StackError(refusal(error).sentence, code="database_refused") from None
    except SettingsError as error:
        newer = error.code == "newer_home"
        raise StackError(error.message, StackExit.NEWER_HOME if newer else StackExit.FAILED, code=error.code) from None


def make_local_key(home: Home, settings: StoreSettings, superuser_url: URL | None = None) -> str | None:
    """The tenant of this home and its API key in ``secrets/api-key``, unless the one that is there is still good. Returns what a person
    should know of it. ``superuser_url``: of a server that is this home's alone, which tells whose the data is where the home does not."""
    key_file = home.secrets / "api-key"
    with closing(open_store(settings, Role.API, pool_size=1)) as store:
        tenant_id = _tenant_of_key(store, key_file)
        if tenant_id is not None:
            if tenant_id != _tenant_of(home):  # a home that was restored
                write_private(home.path / "tenant", str(tenant_id))
            return None
        told = None
        for tenant_id in (_tenant_of(home), first_tenant(superuser_url) if superuser_url else None):
            if tenant_id is not None and (secret := _new_key(store, tenant_id)) is not None:
                told = f"no key of this home was valid: {key_file} holds a new one, of the same tenant as before"
                break
        else:
            tenant_id = create_tenant(store, LOCAL_TENANT)
            secret = _new_key(store, tenant_id)
    assert secret is not None  # a tenant that was just made is there
    write_private(home.path / "tenant", str(tenant_id))
    write_private(key_file, secret)
    return told


def _tenant_of_key(store: Store, key_file: Path) -> UUID | None:
    """None where there is no key, or one of another database, revoked, or expired."""
    try:
        return authenticate(store, read_private(key_file).strip()).tenant_id
    except (FileNotFoundError, Denied):
        return None


def _new_key(store: Store, tenant_id: UUID) -> str | None:
    """None where there is no such tenant."""
    try:
        return create_api_key(store, tenant_id, uuid4(), "this machine", SCOPES)[1]
    except NotFound:
        return None


def _make_key_file(path: Path, database_made_before: bool) -> None:
    if path.exists():
        return
    if database_made_before:
        # A new key would open nothing of what is stored, and hide that the old one is lost.
        raise StackError(
            f"The key file {path} is missing, and this database is sealed with it: put it back from your backup, or set TEXTMILL_KEK_FILE.",
            code="key_file_missing",
        )
    LocalKeyFile.create(path)


def _tenant_of(home: Home) -> UUID | None:
    try:
        return UUID((home.path / "tenant").read_text().strip())
    except (OSError, ValueError):
        return None
