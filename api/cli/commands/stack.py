"""`textmill up, down, status, doctor`: the stack of this machine. `textmill api, worker, dispatcher`: its single parts, for machines that
run one each. `textmill db`: the tables.

Exit codes of the first four: 0 done · 1 something needs mending · 2 the command is wrong · 3 a part did not start, or nothing runs here ·
6 already running in this home · 7 a port is taken · 8 the home folder cannot be used (read-only, full, not ours) · 9 the home folder is of
a newer textmill · 130 the stop was hurried by a second Ctrl-C.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from api.cli.terminal.database import database_answers
from api.cli.terminal.options import Json
from api.local.home.refusals import EXIT_CODES, StackExit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from api.local.home.home import Home

API_PORT = 8910
FLOWER_PORT = 5555

db_app = typer.Typer(no_args_is_help=True, help="Set up, migrate and back up a database, and make tenants.")


def register(app: typer.Typer) -> None:
    app.command("up", epilog=EXIT_CODES)(up)
    app.command("down", epilog=EXIT_CODES)(down)
    app.command("status", epilog=EXIT_CODES)(status)
    app.command("doctor", epilog=EXIT_CODES)(doctor)
    app.command("api")(api)
    app.command("worker")(worker)
    app.command("dispatcher")(dispatcher)
    app.add_typer(db_app, name="db")


def up(
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Of the HTTP API; 0 takes a free one.")] = API_PORT,
    flower_port: Annotated[int, typer.Option("--flower-port", min=0, max=65535, help="Of Flower; 0 takes a free one.")] = FLOWER_PORT,
    no_flower: Annotated[bool, typer.Option("--no-flower", help="Do without Flower.")] = False,
    workers: Annotated[int | None, typer.Option("--workers", min=0, max=64, help="How many; otherwise one a GPU, or one CPU.")] = None,
    preload: Annotated[
        bool,
        typer.Option("--preload", help="Be ready only when each worker has loaded TEXTMILL_MODELS, or else the first that classifies."),
    ] = False,
    models: Annotated[str | None, typer.Option("--models", metavar="A,B", help="The same, with these models.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return when everything runs, and leave it running.")] = False,
    as_json: Json = False,
) -> int:
    """Start everything on this machine: Postgres, Valkey, dispatcher, workers, API and Flower.

    The first start makes the keys, a tenant and its API key. Ctrl-C lets the shards in flight finish and stops all; a second hurries.
    With TEXTMILL_DATABASE_URL or TEXTMILL_REDIS_URL set, those servers are used and none is started.
    """
    from api.cli.terminal.terminal import say
    from api.local.up import UpOptions, run

    say(*ignored_settings())
    loaded = preloaded(models) if preload or models is not None else ()
    options = UpOptions(port, None if no_flower else flower_port, workers, loaded)
    if not detach:
        from api.local.display import Display

        return run(_home(), options, Display())
    from api.cli.terminal.terminal import answer, answer_json
    from api.local.detach import start

    state = start(_home(), options)
    if as_json:
        answer_json(state)
    else:
        answer(f"textmill runs (pid {state['pid']}): API {state['api']}")
        say(*(f"{name}: {place}" for name, place in places_of(state) if name != "api"))
    return StackExit.OK


def ignored_settings() -> list[str]:
    """What is set and does nothing under `textmill up`, in sentences."""
    import os

    if not os.environ.get("TEXTMILL_METRICS_PORT"):
        return []
    return [
        f"Note: TEXTMILL_METRICS_PORT does nothing here: each part takes a free port, and {_home().run / 'state.json'} has their addresses."
    ]


def places_of(state: "Mapping[str, object]") -> list[tuple[str, object]]:
    """Where the stack of a home answers, how to get in, and where it writes."""
    from api.local.processes.parts import FLOWER_USER

    home = Path(str(state.get("home") or _home().path))
    secrets = home / "secrets"
    ways_in = {"flower": f"  (user {FLOWER_USER}, password in {secrets / 'flower'})", "api": f"  (key in {secrets / 'api-key'})"}
    found = [(name, f"{state[name]}{ways_in.get(name, '')}") for name in ("api", "flower", "postgres", "redis") if state.get(name)]
    return [*found, ("logs", home / "logs")]


def preloaded(models: str | None) -> tuple[str, ...]:
    """What the workers load ahead. Raises CommandError where a name is no model's."""
    from api.cli.terminal.exits import CommandError
    from db.errors import TextmillError
    from db.settings import load
    from workers.models import registry
    from workers.settings import WorkerSettings

    named = tuple(name for name in (models or "").split(",") if name) or load(WorkerSettings).models
    try:
        return tuple(registry.get(name.strip()).id for name in named) or (registry.default_model("classify").id,)
    except TextmillError as error:
        raise CommandError(error.message) from None


def down(
    now: Annotated[bool, typer.Option("--now", help="Do not wait for the shards in flight; their leases bring them back.")] = False,
) -> int:
    """Stop what `textmill up` started in this home, and wait until it is gone."""
    from api.cli.terminal.terminal import say
    from api.local.detach import stop

    home = _home()
    pid = stop(home, hurry=now)
    say(f"Stopped (pid {pid})." if pid else f"Nothing runs in {home.path}.")
    return StackExit.OK


def status(as_json: Json = False) -> int:
    """Show the parts of this home's stack, what its workers load, and what your jobs wait for."""
    from api.cli.terminal.terminal import answer_json, say, table
    from api.local.home.instance import find_running, read_state

    home = _home()
    running = find_running(home)
    state = read_state(home) if running else {}
    parts = state.get("parts")
    listed = [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    from api.cli.work.now import jobs_now, workers_now

    busy = workers_now() if state.get("ready") else {}
    if as_json:
        told = {"parts": [{**part, "now": busy.get(part.get("pid") or 0)} for part in listed]} if running is not None else {}
        answer_json({"running": running is not None, **state, **told})
    elif running is None:
        say(f"Nothing runs in {home.path}; `textmill up` starts it.")
    else:
        table(
            ("PART", "STATE", "NOW", "PID", "RESTARTS", "LAST DEATH"),
            [
                [
                    part.get("name") or "",
                    part.get("state") or "",
                    busy.get(part.get("pid") or 0, ""),
                    *(part.get(name) or "" for name in ("pid", "restarts", "note")),
                ]
                for part in listed
            ],
            cut="LAST DEATH",
        )
        say("", *(f"{name}: {place}" for name, place in places_of(state)))
        say(*(jobs_now() if state.get("ready") else []))
    if running is None:
        return StackExit.FAILED
    return StackExit.OK if listed and all(part.get("state") == "running" for part in listed) else StackExit.UNHEALTHY


def doctor(
    part: Annotated[
        Literal["api", "worker", "dispatcher", "flower", "migrate"] | None,
        typer.Option("--part", help="Whose home it is, with one part's secrets; otherwise what lies there tells."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Look at this machine, this home and its servers, and say what needs mending.

    Where the parts run each by itself, once for each: in its home, with its environment.
    """
    from api.cli.terminal.terminal import answer, answer_json, broken, shown
    from api.local.doctor.doctor import examine

    findings = examine(_home(), part)
    if as_json:
        answer_json([{"check": each.check, "ok": each.ok, "found": each.found, "todo": each.todo} for each in findings])
    else:
        width = max(len(each.check) for each in findings)
        for each in findings:
            found = f"{'OK ' if each.ok else 'BAD'}  {each.check:<{width}}  {shown(each.found)}"
            answer(broken(found, sys.stdout, indent=width + 7))
            if each.todo:
                answer(broken(f"{'':>{width + 7}}→ {shown(each.todo)}", sys.stdout, indent=width + 9))
    return StackExit.OK if all(each.ok for each in findings) else StackExit.UNHEALTHY


def api(
    host: Annotated[
        str, typer.Option("--host", help="The address to listen on. Put TLS in front before it is not this machine's own.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="The port to listen on.")] = API_PORT,
) -> int:
    """Run the HTTP API alone, in the foreground."""
    from api.app import serve

    serve(None, host, port)
    return StackExit.OK


def worker(
    device: Annotated[str | None, typer.Option("--device", metavar="DEVICE", help="auto, cpu, or cuda:N as nvidia-smi counts.")] = None,
) -> int:
    """Run one worker alone, in the foreground. SIGTERM drains it."""
    import os

    if device is not None:
        os.environ["TEXTMILL_DEVICE"] = device
    from workers.host.main import main

    return main()


def dispatcher() -> int:
    """Run the dispatcher and reconciler alone, in the foreground. Of several, one leads."""
    from workers.dispatch.dispatcher import main

    return main()


@db_app.callback()
def db() -> None:
    """Set up, migrate and back up a database, and make tenants."""


@db_app.command("migrate")
def migrate() -> int:
    """Run the missing migrations, as the owner role."""
    from api.cli.terminal.terminal import say
    from db.sealing.keys import LocalKeyFile
    from db.server.migrate import migrate as run_migrations
    from db.server.revision import head_revision
    from db.settings import Role, StoreSettings, load

    settings = load(StoreSettings)
    with database_answers():
        run_migrations(settings.database_url_for(Role.OWNER), lambda: LocalKeyFile.load(settings.kek_path))
    say(f"The database is at revision {head_revision()}.")
    return StackExit.OK


@db_app.command("bootstrap")
def bootstrap() -> int:
    """Make the login roles and the database, once, as a superuser.

    TEXTMILL_SUPERUSER_URL names the server and the superuser. Passwords of the roles are taken from TEXTMILL_DB_PASSWORD_OWNER, _API,
    _WORKER, _DISPATCHER and _AUDITOR, or from files of the home's secrets folder, where those that are missing are made.
    """
    import os

    from api.cli.terminal.exits import CommandError
    from api.cli.terminal.terminal import say
    from api.local.first_start import make_roles
    from db.settings import database_address

    address = os.environ.get("TEXTMILL_SUPERUSER_URL")
    if not address:
        raise CommandError("Set TEXTMILL_SUPERUSER_URL to the server, as in postgresql://postgres@host:5432/postgres.")
    with database_answers():
        make_roles(_home(), database_address(address, "TEXTMILL_SUPERUSER_URL"))
    say("The login roles and the database are there; `textmill db migrate` makes the tables.")
    return StackExit.OK


@db_app.command("backup")
def backup(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder, best on another disk.", file_okay=False)],
) -> int:
    """Back up the database of the running stack, and check the backup. It opens with the home's keys/ and secrets/, not in it."""
    from api.cli.terminal.terminal import say
    from api.local.servers.backup import back_up

    home = _home()
    back_up(home, folder)
    say(f"{folder} holds the database. What opens it does not lie there: keep copies of {home.keys} and {home.secrets} elsewhere.")
    return StackExit.OK


@db_app.command("tenant")
def tenant(name: Annotated[str, typer.Argument(metavar="NAME", help="For people; it is stored sealed.")]) -> int:
    """Make a tenant and its first API key, with every scope, and print the key. It is shown this once and kept nowhere.

    For servers of your own; `textmill up` makes a tenant for this machine by itself. Needs the key file and the password of the API's role.
    """
    from contextlib import closing
    from uuid import uuid4

    from api.cli.terminal.terminal import answer, say
    from db.connect import open_store
    from db.operators.api_keys import SCOPES, create_api_key
    from db.operators.tenants import create_tenant
    from db.server.versions import require_current
    from db.settings import Role, StoreSettings, load

    settings = load(StoreSettings)
    with database_answers(), closing(open_store(settings, Role.API, pool_size=1)) as store:
        require_current(settings.database_url_for(Role.API))
        tenant_id = create_tenant(store, name)
        _, secret = create_api_key(store, tenant_id, uuid4(), "first key", SCOPES)
    say(f"Made tenant {tenant_id}. Its key, shown this once:")
    answer(secret)
    return StackExit.OK


def _home() -> "Home":
    from api.cli.terminal.connection import home
    from api.local.home.home import Home

    return Home(Path(home()).absolute())
