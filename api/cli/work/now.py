"""What `textmill status` tells beside processes: what each worker is busy with, and what one's own jobs wait for; and `models list` of who
has which loaded. Who cannot be asked says nothing: the tables stand by themselves."""

from itertools import islice
from typing import Final

from db.errors import TextmillError

LOOKED_AT: Final = 20  # of the newest jobs
MOST_TOLD: Final = 5


def workers_now() -> dict[int, str]:
    """By process id, of this machine's home: "loading minilm-l6-v2 (4 s)", "drained"; those that do nothing but their work are left out."""
    import socket

    from api.cli.terminal.database import fleet_store
    from db.operators.fleet import list_workers
    from db.process_names import pid_of

    here = socket.gethostname()
    try:
        with fleet_store() as store:
            mine = [each for each in list_workers(store) if each.host == here]
            told = {pid_of(each.worker): each.doing or (each.shown_state if each.shown_state.startswith("drain") else "") for each in mine}
            return {pid: now for pid, now in told.items() if now}
    except TextmillError:
        return {}


def loaded_now() -> dict[str, list[str]]:
    """By model: which workers have it loaded. Nothing where the server may be another than that of this home."""
    import os

    from api.cli.terminal.database import fleet_store
    from db.operators.fleet import list_workers
    from db.process_names import without_start

    if os.environ.get("TEXTMILL_API_URL"):
        return {}
    found: dict[str, list[str]] = {}
    try:
        with fleet_store() as store:
            for each in list_workers(store):
                for model in () if each.silent else each.loaded:
                    found.setdefault(model, []).append(f"{without_start(each.worker)} ({each.device})")
    except TextmillError:
        return {}
    return found


def jobs_now() -> list[str]:
    """A line for each of one's newest jobs that waits, with what for."""
    from api.cli.terminal.connection import connect
    from api.cli.work.following import waits_for

    lines: list[str] = []
    try:
        with connect() as client:
            for listed in islice(client.batches(), LOOKED_AT):
                if listed.ended or len(lines) == MOST_TOLD:
                    continue
                batch = client.batch(listed.id)
                if waits_for(batch):
                    lines.append(f"job {batch.id}: {batch.counts.done:,} of {batch.counts.total:,} rows, {waits_for(batch)}")
    except TextmillError:
        return []
    return lines
