"""`textmill workers`: the processes that do the work, for whoever runs them. It asks the store itself, as the dispatcher, not the API."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from api.cli.terminal.database import fleet_store
from api.cli.terminal.exits import CommandError, ExitCode
from api.cli.terminal.options import Json

if TYPE_CHECKING:
    from db.connect import Store
    from db.operators.fleet import WorkerRecord

POLL_SECONDS = 0.5

app = typer.Typer(no_args_is_help=True, help="List, drain and resume the worker processes. For operators: needs the dispatcher's password.")
Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME]...", help="A name as in the list, with or without what follows the second colon; or a host: all of its workers."
    ),
]
All = Annotated[bool, typer.Option("--all", help="Every worker there is.")]


@app.command("list")
def list_all(as_json: Json = False) -> int:
    """List the workers of all machines: what each does, and when it last got on."""
    from api.cli.terminal.terminal import answer_json, table

    with fleet_store() as store:
        found = _known(store)
    if as_json:
        answer_json([_as_object(each) for each in found])
        return ExitCode.OK
    differ = len({each.version for each in found}) > 1  # as they do in the middle of an update
    table(
        ("WORKER", "DEVICE", "STATE", "NOW", "SHARDS", "ROWS", "SEEN", "PROGRESS", "MEMORY", *(["VERSION"] if differ else [])),
        (
            (
                each.worker,
                each.device,
                _shown_state(each),
                each.doing,
                each.held,
                f"{each.rows_done:,}",
                _ago(each.silent_seconds),
                _ago(each.still_seconds),
                f"{each.memory_bytes >> 20:,} MiB",
                *([each.version] if differ else []),
            )
            for each in found
        ),
        cut="NOW",
    )
    return ExitCode.OK


@app.command()
def drain(
    names: Names = None,
    everyone: All = False,
    wait: Annotated[bool, typer.Option("--wait", help="Return when they hold nothing any more.")] = False,
    as_json: Json = False,
) -> int:
    """Let workers finish or hand back what they hold, and claim nothing more until they are resumed. The processes stay."""
    return _ask(names, "drain", everyone=everyone, wait=wait, as_json=as_json)


@app.command()
def resume(
    names: Names = None,
    everyone: All = False,
    wait: Annotated[bool, typer.Option("--wait", help="Return when they claim again.")] = False,
    as_json: Json = False,
) -> int:
    """Let drained workers claim again."""
    return _ask(names, "resume", everyone=everyone, wait=wait, as_json=as_json)


def _ask(names: list[str] | None, what: Literal["drain", "resume"], *, everyone: bool, wait: bool, as_json: bool) -> int:
    from api.cli.terminal.terminal import answer_json, say
    from db.operators.fleet import ask

    if bool(names) == everyone:
        raise CommandError(f"Say which: `textmill workers {what} NAME`, or --all. `textmill workers list` shows the names.")
    with fleet_store() as store:
        chosen = choose(_known(store), names)
        asked = ask(store, chosen, what)
        if not as_json:
            say(f"Asked to {what}: {', '.join(asked) or 'none, for no worker runs'}." + ("" if wait else " It is heard within seconds."))
        if wait:
            _wait(store, asked, "drained" if what == "drain" else "running")
        found = [each for each in _known(store) if each.worker in asked]
    if as_json:
        answer_json([_as_object(each) for each in found])
    elif wait:
        say(f"{'Drained' if what == 'drain' else 'Resumed'}: {', '.join(asked)}.")
    return ExitCode.OK


def choose(known: "Sequence[WorkerRecord]", names: Sequence[str] | None) -> list[str]:
    """The workers that are meant; ``names`` None: all that are not silent. CommandError where a name is nobody's."""
    if names is None:
        return [each.worker for each in known if not each.silent]
    from db.process_names import without_start

    chosen: list[str] = []
    for name in names:
        meant = [each.worker for each in known if name in (each.worker, without_start(each.worker), each.host)]
        if not meant:
            raise CommandError(
                f"No worker is called {name}: `textmill workers list` shows their names.", ExitCode.ROWS_FAILED, code="worker_not_found"
            )
        chosen += [worker for worker in meant if worker not in chosen]
    return chosen


def _wait(store: "Store", workers: Sequence[str], state: str) -> None:
    """Until each is in that state, has ended, or fell silent: then it never will be."""
    while any(each.worker in workers and each.state != state and not each.silent for each in _known(store)):
        time.sleep(POLL_SECONDS)


def _known(store: "Store") -> "list[WorkerRecord]":
    from db.operators.fleet import list_workers

    return list_workers(store)


def _shown_state(worker: "WorkerRecord") -> str:
    waits = worker.asked == "drain" and worker.shown_state == "running"
    return "running, asked to drain" if waits else worker.shown_state


def _ago(seconds: float) -> str:
    if seconds < 1:
        return "now"
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _as_object(worker: "WorkerRecord") -> dict[str, object]:
    return {
        "worker": worker.worker,
        "device": worker.device,
        "state": worker.shown_state,
        "asked": worker.asked,
        "now": worker.doing,
        "loaded": list(worker.loaded),
        "threads": worker.threads,
        "shards": worker.held,
        "rows_done": worker.rows_done,
        "memory_bytes": worker.memory_bytes,
        "version": worker.version,
        "started_at": int(worker.started_at.timestamp()),
        "seen_at": int(worker.seen_at.timestamp()),
        "progressed_at": int(worker.progressed_at.timestamp()),
        "silent_seconds": round(worker.silent_seconds, 1),
        "still_seconds": round(worker.still_seconds, 1),
    }
