"""`textmill keys`: who may do what. `textmill audit`: who did what."""

import time
from itertools import islice
from typing import Annotated

import typer

from api.cli.terminal.deleting import delete
from api.cli.terminal.exits import CommandError, ExitCode
from api.cli.terminal.options import Json
from api.cli.terminal.references import find_either

app = typer.Typer(no_args_is_help=True, help="Create, list and revoke API keys.")
audit_app = typer.Typer(no_args_is_help=True, help="Read the record of every access.")
SCOPES = ("submit", "read", "manage", "audit", "admin")


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
    from api.cli.terminal.terminal import answer_json, table, when

    with connect() as client:
        keys = list(client.pages("/v1/keys"))
    if as_json:
        answer_json(keys)
        return ExitCode.OK
    rows = []
    for key in keys:
        scopes = key.get("scopes")
        expires_at = key.get("expires_at")
        expired = isinstance(expires_at, int) and expires_at <= time.time()
        state = "revoked" if key.get("revoked_at") else "expired" if expired else "active"
        named = ", ".join(map(str, scopes)) if isinstance(scopes, list) else ""
        rows.append((key.get("id", ""), key.get("name") or "", named, state, when(key.get("created_at")), when(key.get("expires_at"))))
    table(("KEY", "NAME", "SCOPES", "STATE", "CREATED", "EXPIRES"), rows)
    return ExitCode.OK


@app.command("revoke")
def revoke_key(
    key: Annotated[str, typer.Argument(metavar="KEY", help="A key's id, from `textmill keys list`.")], as_json: Json = False
) -> int:
    """Revoke a key. It is refused from the next request on."""
    return delete("/v1/keys", key, "Revoked", as_json=as_json)


@audit_app.callback()
def audit() -> None:
    """Read the record of every access."""


@audit_app.command("list")
def list_events(
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many, newest first.")] = 50,
    action: Annotated[str | None, typer.Option("--action", metavar="NAME", help="Only this action, e.g. rows.read.")] = None,
    about: Annotated[
        str | None, typer.Option("--object", metavar="ID", help="Only events about this file or job, named as elsewhere; or about a key.")
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
            query["object"] = find_either(client, about)
        events = list(islice(client.pages("/v1/audit/events", **query), limit))
    if as_json:
        answer_json(events)
    else:
        table(("AT", "COMPONENT", "ACTION", "OUTCOME", "OBJECT", "ROWS", "BY"), (_event_row(event) for event in events))
    return ExitCode.OK


def _event_row(event: dict[str, object]) -> tuple[object, ...]:
    from api.cli.terminal.terminal import when

    first, end = event.get("first_idx"), event.get("end_idx")
    return (
        when(event.get("created_at")),
        event.get("component", ""),
        event.get("action", ""),
        event.get("outcome", ""),
        event.get("object_id") or "",
        f"{first}–{end - 1 if isinstance(end, int) else ''}" if isinstance(first, int) else "",
        event.get("principal_id") or "",
    )
