"""The half of `textmill doctor` that looks at the work: jobs, shards, leases, messages and workers. As the dispatcher, who sees no content.

It is asked only once the database answers, and has its tables.
"""

import base64
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Final
from uuid import UUID

from api.local.doctor.finding import Finding
from api.local.doctor.place import Place
from api.objects import batch_id, public_id
from db.connect import open_store
from db.errors import SettingsError
from db.operators import fleet, health
from db.operators.fleet import WorkerRecord
from db.operators.health import Health, Stuck
from db.queue import leader
from db.queue.dispatch import REDISPATCH_SECONDS
from db.settings import Role, StoreSettings, load

STILL_SECONDS: Final = 600.0  # a model that is loaded and calibrated for the first time takes a minute or two
SAMPLE: Final = 200  # messages looked into
FULL_SHARE: Final = 0.05
FULL_BYTES: Final = 1 << 30


def examine_work(place: Place) -> Iterator[Finding]:
    yield from postgres_disk(place)
    with closing(open_store(place.settings, Role.DISPATCHER, pool_size=1)) as store:
        found = health.measure(store)
        known = fleet.list_workers(store)
        yield durability(health.durability(store))
        yield dispatcher(found, leads=leader.leads(store))
        yield from living(found, known)
        yield jobs(health.stuck_jobs(store), found)
        yield leases(found)
        yield shards(found)
        yield counts(health.miscounted_jobs(store), health.left_over_shards(store))
        yield values(health.damaged_objects(store))
        if place.has_queue:
            yield from messages(found, waiting_messages(place.settings), lambda checks: health.ready_of(store, checks))


def durability(found: dict[str, str]) -> Finding:
    off = [f"{name} = {value}" for name, value in found.items() if value == "off"]
    return Finding(
        "durability",
        not off,
        "a commit is on the disk" if not off else f"{', '.join(off)}: a crash of the server loses what was acknowledged, or breaks tables",
        f"Turn {' and '.join(name.partition(' ')[0] for name in off)} on in postgresql.conf, and restart Postgres." if off else "",
    )


def dispatcher(found: Health, *, leads: bool) -> Finding:
    to_do = sum(found.jobs.values())
    if leads:
        return Finding("dispatcher", True, "one leads")
    return Finding(
        "dispatcher",
        not to_do,
        f"none leads; {to_do} job(s) are live" if to_do else "none leads; no job is live",
        "Start one with `textmill dispatcher` (or `textmill up`): without it no job is cut, no lost lease taken up, no job ended."
        if to_do
        else "",
    )


def living(found: Health, known: Sequence[WorkerRecord]) -> Iterator[Finding]:
    """Workers: how many there are, then each that is not well."""
    running = [each for each in known if not each.silent and each.state == "running"]
    drained = [each for each in known if not each.silent and each.state != "running"]
    idle_work = found.ready > 0 and not running
    todo = ""
    if idle_work:
        todo = "Resume one: `textmill workers resume --all`." if drained else "Start one with `textmill worker` (or `textmill up`)."
    yield Finding(
        "workers",
        not idle_work,
        f"{len(running)} run" + (f", {len(drained)} drained or draining" if drained else "") + f"; {found.ready:,} shards are ready",
        todo,
    )
    for each in known:
        if each.silent:
            yield Finding(
                f"worker {each.worker}",
                False,
                f"silent for {each.silent_seconds:,.0f} s" + (f", and holds {each.held} shard(s)" if each.held else ""),
                f"It died without a word or lost Postgres: see its log on {each.host}, and start it again. It is forgotten after a day.",
            )
        elif each.still_seconds > STILL_SECONDS and each.leases:
            yield Finding(
                f"worker {each.worker}",
                False,
                f"alive, holds {each.leases} shard(s), and made no progress for {each.still_seconds:,.0f} s",
                f"See its log on {each.host}. Its watchdog ends it after TEXTMILL_HANG_SECONDS; or kill it now: its shards come back.",
            )


def jobs(stuck: Sequence[Stuck], found: Health) -> Finding:
    named = ", ".join(f"{batch_id(each.job_id)} ({each.state} for {each.seconds:,.0f} s)" for each in stuck)
    return Finding(
        "jobs",
        not stuck,
        f"stuck: {named}" if stuck else f"{sum(found.jobs.values())} live, each gets on",
        "`textmill jobs show` tells each one's story; the lines on dispatcher and workers here may say why." if stuck else "",
    )


def leases(found: Health) -> Finding:
    return Finding(
        "leases",
        not found.abandoned_leases,
        f"{found.leased:,} held"
        + (f", of which {found.abandoned_leases:,} ran out over a minute ago and nobody took them" if found.abandoned_leases else ""),
        "The dispatcher's reconciler does that every second: see its log, and whether one leads." if found.abandoned_leases else "",
    )


def shards(found: Health) -> Finding:
    """Ready ones that nobody is told of. Beyond the window of messages a backlog waits in Postgres, so they count only while none works."""
    forgotten = found.not_offered if found.leased == 0 and found.oldest_ready_seconds > REDISPATCH_SECONDS else 0
    return Finding(
        "shards",
        not forgotten,
        f"{forgotten:,} ready for up to {found.oldest_ready_seconds:,.0f} s without a message, and none in work"
        if forgotten
        else f"{found.ready:,} ready, {found.leased:,} in work",
        "Workers look for themselves every few seconds: see whether one runs, and its log." if forgotten else "",
    )


def counts(miscounted: dict[UUID, int], left_over: int) -> Finding:
    wrong = [f"{batch_id(job)} ({missing:,} rows without an outcome)" for job, missing in miscounted.items()]
    if left_over:
        wrong.append(f"{left_over} live shard(s) of jobs that have ended")
    return Finding(
        "counts",
        not wrong,
        "; ".join(wrong) if wrong else "every row of every completed job has its outcome",
        "This must not be: keep the database as it is, and report it with the output of `textmill jobs show`." if wrong else "",
    )


def values(damaged: Sequence[tuple[str, UUID]]) -> Finding:
    """What was altered in the database, as far as somebody came across it."""
    named = ", ".join(public_id(kind, id) for kind, id in damaged[: health.LISTED])
    more = f" and {len(damaged) - health.LISTED} more" if len(damaged) > health.LISTED else ""
    return Finding(
        "sealed values",
        not damaged,
        f"values of {named}{more} did not open when they were read in the last {health.DAMAGE_DAYS} days"
        if damaged
        else f"none was found damaged in the last {health.DAMAGE_DAYS} days",
        "They were altered or moved in the database: find out who writes there, and restore them from a backup, or send them again."
        " `textmill audit list --action value.damaged` tells which rows they are."
        if damaged
        else "",
    )


def messages(
    found: Health, waiting: tuple[int, list[tuple[UUID, int]]] | None, ready_of: Callable[[Sequence[tuple[UUID, int]]], int]
) -> Iterator[Finding]:
    """Messages are hints: who takes one does what is next, and a stale one does no harm. Many of them while nobody works, or more than
    there is work, say that nobody takes them."""
    if waiting is None:
        return
    from workers.app import QUEUE

    depth, sample = waiting
    stale = len(sample) - ready_of(sample) if sample else 0
    too_many = depth > found.ready + 2 * _window()
    mostly_stale = found.leased == 0 and stale > max(10, len(sample) // 2)
    told = f"{depth:,} wait, {found.ready:,} shards are ready"
    if stale:
        told += f"; of {len(sample)} looked at, {stale} name no ready shard"
    yield Finding(
        "messages",
        not (too_many or mostly_stale),
        told,
        f"See whether a worker takes messages. It is safe to remove them all, shards are offered again: `redis-cli DEL {QUEUE}`."
        if too_many or mostly_stale
        else "",
    )


def postgres_disk(place: Place) -> Iterator[Finding]:
    """Only where the database is ours and lies here; how full another server's disk is, no role of ours may ask."""
    if not place.is_embedded or not place.home.postgres.is_dir():
        return
    usage = shutil.disk_usage(place.home.postgres)
    full = usage.free < max(FULL_BYTES, min(10 * FULL_BYTES, int(FULL_SHARE * usage.total)))
    yield Finding(
        "postgres disk",
        not full,
        f"{usage.free >> 20:,} MiB of {usage.total >> 20:,} MiB free",
        "Make room: on a full disk Postgres refuses writes until there is some. `textmill files delete` and ended jobs free theirs."
        if full
        else "",
    )


def waiting_messages(settings: StoreSettings) -> tuple[int, list[tuple[UUID, int]]] | None:
    """How many, and the claim checks in the first of them; None where the broker does not answer."""
    import redis

    from workers.app import QUEUE

    try:
        with closing(redis.Redis.from_url(settings.broker_url(), socket_timeout=5, socket_connect_timeout=5)) as client:
            depth, raw = client.llen(QUEUE), client.lrange(QUEUE, 0, SAMPLE - 1)
    except (redis.RedisError, SettingsError, ValueError, TypeError, OSError):
        return None
    assert isinstance(depth, int)
    assert isinstance(raw, list)
    return depth, [check for check in map(claim_check, raw) if check is not None]


def claim_check(raw: bytes | str) -> tuple[UUID, int] | None:
    import msgspec

    from workers.app import read_claim_check

    try:
        _args, kwargs, _embed = msgspec.json.decode(base64.b64decode(msgspec.json.decode(raw)["body"]))
    except (ValueError, KeyError, TypeError):
        return None
    return read_claim_check((), kwargs) if isinstance(kwargs, dict) else None


def _window() -> int:
    from workers.settings import DispatcherSettings

    return load(DispatcherSettings).window
