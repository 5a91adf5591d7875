"""`textmill keys`: who may do what. `textmill audit`: who did what."""

import re
import sys
import time
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Annotated

import typer

from api.cli.terminal.deleting import confirm
from api.cli.terminal.exits import CommandError, ExitCode
from api.cli.terminal.options import Json, Yes
from api.cli.terminal.references import find_key, find_object, short_ids

app = typer.Typer(no_args_is_help=True, help="Create, list and revoke API keys.")
audit_app = typer.Typer(no_args_is_help=True, help="Read the record of every access.")
SCOPES = ("submit", "read", "unmask", "manage", "audit", "admin")
ID_IN_ROUTE = re.compile(r"\{\w+_id\}")
YEAR = len("2026-")  # of what is listed newest first it says nothing at a terminal


@app.command("create")
def create_key(
    name: Annotated[str, typer.Argument(metavar="NAME", help="For whom or what it is; you see it in lists.")],
    scopes: Annotated[str, typer.Option("--scopes", metavar="A,B", help=f"Some of {', '.join(SCOPES)}.")] = "submit,read",
    days: Annotated[
        int | None, typer.Option("--expires-days", min=1, help="The key ends after so many days; without, it does not.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Make a key and print it. It is shown this once: only its hash is kept."""
    import time

    from api.cli.terminal.connection import connect
    from api.cli.terminal.terminal import answer, answer_json, say

    wanted = [scope.strip() for scope in scopes.split(",") if scope.strip()]
    if not wanted or not set(wanted) <= set(SCOPES):
        raise CommandError(f"--scopes takes some of {', '.join(SCOPES)}, separated by commas.")
    body: dict[str, object] = {"name": name, "scopes": wanted}
    if days is not None:
        body["expires_at"] = int(time.time()) + days * 86_400
    with connect() as client:
        created = client.post("/v1/keys", body)
    if as_json:
        answer_json(created)
    else:
        answer(str(created["key"]))
        say("Keep it now: it is not shown again.")
    return ExitCode.OK


@app.command("list")
def list_keys(as_json: Json = False) -> int:
    """List keys; never their secret."""
    from api.cli.terminal.connection import connect
    from api.cli.terminal.terminal import DATE, answer_json, table, when

    with connect() as client:
        keys = list(client.pages("/v1/keys"))
    if as_json:
        answer_json(keys)
        return ExitCode.OK
    ids = short_ids(str(key.get("id")) for key in keys)
    rows = []
    for key in keys:
        given = _scopes(key)
        named = "all" if set(given) == set(SCOPES) else ", ".join(given)
        made, ends = (when(key.get(name))[:DATE] for name in ("created_at", "expires_at"))
        rows.append((ids[str(key.get("id"))], key.get("name") or "", named, _state(key), made, ends))
    table(("KEY", "NAME", "SCOPES", "STATE", "CREATED", "EXPIRES"), rows, cut="NAME")
    return ExitCode.OK


@app.command("revoke")
def revoke_key(
    key: Annotated[str, typer.Argument(metavar="KEY", help="A key's id or its first digits, from `textmill keys list`.")],
    yes: Yes = False,
    as_json: Json = False,
) -> int:
    """Revoke a key. It is refused from the next request on.

    Asks before it revokes the key in use, or the last that can make others.
    """
    from api.cli.terminal.connection import connect
    from api.cli.terminal.terminal import answer_json, say, shown

    with connect() as client:
        keys = {str(each["id"]): each for each in client.pages("/v1/keys")}
        key_id = find_key(list(keys), key)
        known = keys.get(key_id, {})
        if not yes and (why := _why_asked(known, keys.values())) is not None:
            confirm(f"{shown(key_id)} is {why}. Revoke it?", "revoked")
        revoked = client.delete("/v1/keys", key_id)
    if as_json:
        answer_json(revoked)
    else:
        say(f"{shown(key_id)} was revoked already." if known.get("revoked_at") else f"Revoked {shown(key_id)}.")
    return ExitCode.OK


def _why_asked(key: Mapping[str, object], keys: Iterable[Mapping[str, object]]) -> str | None:
    """Why somebody might regret that this one of ``keys`` is revoked."""
    if key.get("current"):
        return "the key in use: nothing is done with it afterwards"
    makers = [each["id"] for each in keys if _state(each) == "active" and "admin" in _scopes(each)]
    return "the last that can make others, and no other key could" if makers == [key.get("id")] else None


def _state(key: Mapping[str, object]) -> str:
    expires_at = key.get("expires_at")
    expired = isinstance(expires_at, int) and expires_at <= time.time()
    return "damaged" if key.get("damaged") else "revoked" if key.get("revoked_at") else "expired" if expired else "active"


def _scopes(key: Mapping[str, object]) -> list[str]:
    scopes = key.get("scopes")
    return list(map(str, scopes)) if isinstance(scopes, list) else []


@audit_app.callback()
def audit() -> None:
    """Read the record of every access."""


@audit_app.command("list")
def list_events(
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many, newest first.")] = 50,
    action: Annotated[str | None, typer.Option("--action", metavar="NAME", help="Only this action, e.g. rows.read.")] = None,
    about: Annotated[
        str | None,
        typer.Option(
            "--object",
            metavar="ID",
            help="Only events about this file, job or key, or about any other id that the list shows: whole, or its first digits.",
        ),
    ] = None,
    as_json: Json = False,
) -> int:
    """List audit events, newest first."""
    from api.cli.terminal.connection import connect
    from api.cli.terminal.terminal import answer_json, table

    query: dict[str, str | int] = {"limit": min(limit, 100)}
    if action is not None:
        query["action"] = action
    with connect() as client:
        if about is not None:
            query["object"] = find_object(client, about)
        events = list(islice(client.pages("/v1/audit/events", **query), limit))
    if as_json:
        answer_json(events)
    else:
        ids = short_ids(str(event.get(name)) for event in events for name in ("object_id", "key_id") if event.get(name))
        if sys.stdout.isatty():
            table(("AT", "ACTION", "OBJECT", "ROWS", "BY"), (_short_row(_event_row(event, ids)) for event in events), folds=("OBJECT",))
        else:
            columns = ("AT", "COMPONENT", "ACTION", "OUTCOME", "OBJECT", "ROWS", "BY")
            table(columns, (_event_row(event, ids) for event in events))
    return ExitCode.OK


def _event_row(event: Mapping[str, object], ids: Mapping[str, str]) -> tuple[str, ...]:
    """``ids``: as they are shown. Rows are counted from 1, as in results. Of a key that may not, the object is the route that it tried."""
    from api.cli.terminal.terminal import when

    first, end = event.get("first_idx"), event.get("end_idx")
    on = ids.get(str(event.get("object_id")), "")
    if route := event.get("route"):
        on = ID_IN_ROUTE.sub(on, str(route)) if on and event.get("action") == "scope.missing" else str(route)
    return (
        when(event.get("created_at")),
        str(event.get("component", "")),
        str(event.get("action", "")),
        str(event.get("outcome", "")),
        on,
        f"{first + 1}–{end if isinstance(end, int) else ''}" if isinstance(first, int) else "",
        ids.get(str(event.get("key_id")), ""),
    )


def _short_row(row: tuple[str, ...]) -> tuple[str, ...]:
    """For a terminal of 80 columns: without the year, and with what most events have in common left unsaid."""
    at, component, action, outcome, on, rows, by = row
    return (at[YEAR:], action if outcome == "allowed" else f"{action} {outcome}", on, rows, by or component)
