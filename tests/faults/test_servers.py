"""F53: the server that runs a model refuses, fails, hangs, talks nonsense, dies and comes back. That is its lane's trouble and no row's."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import Verdict
from tests.faults.counters import Load
from tests.faults.faulty_server import Asked, FaultyServer
from tests.faults.house import House
from tests.faults.struck import crash_attempts, shards_of
from tests.workers.submitting import row, submit
from workers.engines.fake import expected_text
from workers.models.servers import VARIABLE

ROWS = 240
MAX_TOKENS = 8
PASSING = ("429", "429-after", "500", "503", "hang", "reset", "drop", "empty", "nonsense", "no-choices", "no-ending", "stream", "endless")
RATE = 0.2  # of requests that meet one


@pytest.fixture
def remote(house: House) -> Iterator[FaultyServer]:
    with FaultyServer(log=house.calls) as made:
        yield made


def registry_of(folder: Path, remote: FaultyServer, **more: float) -> dict[str, str]:
    """The operator's file, everything in it that is waited for being short."""
    path = folder / "models.toml"
    waits = {"timeout_seconds": 2.0, "hang_seconds": 1.0, "patience_seconds": 1.0, **more}
    path.write_text(
        f'[[models]]\nid = "remote"\nengine = "server"\nurl = "{remote.url}"\n'
        + "".join(f"{name} = {value}\n" for name, value in waits.items())
    )
    path.chmod(0o600)
    return {VARIABLE: str(path)}


def load_of(house: House, prompts: list[str], failures: dict[int, str] | None = None) -> Load:
    rows = [row(at, {"messages": [{"role": "user", "content": prompt}], "max_tokens": MAX_TOKENS}) for at, prompt in enumerate(prompts)]
    job_id = submit(house.api, house.actor, rows, task="generate", model="remote")
    return Load(job_id, house.actor, prompts, failures or {}, is_right=_is_right)


def _is_right(prompt: str, answer: Any) -> bool:
    return bool(answer["choices"][0]["message"]["content"] == expected_text(prompt, MAX_TOKENS))


def attempts(house: House, loads: list[Load]) -> int:
    return crash_attempts(house, loads) + sum(shard.error_attempts for _load, shard in shards_of(house, loads))


@pytest.mark.fault("F53", "a server that refuses, fails, hangs, resets, talks nonsense, streams or never ends, one time in five")
def test_a_server_that_fails_in_every_way_costs_no_row_its_answer(house: House, remote: FaultyServer, verdict: Verdict) -> None:
    chance = random.Random(53)
    remote.behave = lambda _asked: chance.choice(PASSING) if chance.random() < RATE else None
    load = load_of(house, [f"prompt {at}" for at in range(ROWS)])
    house.start_dispatcher()
    worker = house.start_worker(**registry_of(house.folder, remote, patience_seconds=5.0))
    house.wait_all_completed([load])
    counted = verdict(house.count([load]), asked=len(remote.asked), faults=sum(remote.faults.values()), kinds=len(remote.faults))
    assert counted.recomputed <= sum(remote.faults.values())
    assert attempts(house, [load]) == 0
    assert worker.alive


@pytest.mark.fault("F53", "a server that dies in the midst of a job, stays away, and comes back")
def test_a_server_that_dies_and_comes_back_costs_no_row_and_no_attempt(house: House, remote: FaultyServer, verdict: Verdict) -> None:
    remote.behave = lambda asked: "hang" if asked.number > ROWS // 3 else None  # so that it dies in the midst, however slow this test is
    load = load_of(house, [f"prompt {at}" for at in range(ROWS)])
    house.start_dispatcher()
    worker = house.start_worker(**registry_of(house.folder, remote))
    house.wait_for(lambda: house.done_count(load.job_id) >= ROWS // 4, "it is in the midst", 120)
    remote.stop()
    house.wait_for(lambda: "given back for" in worker.log, "a shard is given back", 120)
    left = house.open_rows([load])
    remote.behave = lambda _asked: None
    remote.start()
    house.wait_all_completed([load])
    counted = verdict(house.count([load]), left=left)
    assert left > 0
    assert counted.recomputed <= 64, "what was under way, and what was answered and not yet written"
    assert attempts(house, [load]) == 0
    assert worker.alive


@pytest.mark.fault("F53", "rows that the server refuses, and one that it fails on each time")
def test_rows_that_the_server_cannot_do_fail_alone_and_by_their_code(house: House, remote: FaultyServer, verdict: Verdict) -> None:
    meant = {"prompt 3": "400", "prompt 5": "too-long", "prompt 7": "500"}
    remote.behave = lambda asked: meant.get(asked.texts[0])
    prompts = [f"prompt {at}" for at in range(40)]
    load = load_of(house, prompts, {3: "refused_by_server::400|invalid_request_error", 5: "prompt_too_long", 7: "engine_error"})
    house.start_dispatcher()
    worker = house.start_worker(**registry_of(house.folder, remote, patience_seconds=4.0))
    house.wait_all_completed([load])
    counted = verdict(house.count([load]), asked_of_the_poison=sum(asked.texts == ["prompt 7"] for asked in remote.asked))
    assert counted.recomputed == 0
    assert attempts(house, [load]) == 0
    assert worker.alive


def test_what_leaves_the_machine_is_on_record_before_it_does(house: House, remote: FaultyServer) -> None:
    from db.audit.reading import list_events

    first: list[int] = []

    def behave(_asked: Asked) -> None:
        first.append(len(list_events(house.api, house.actor, limit=500, action="rows.send")))

    remote.behave = behave
    load = load_of(house, [f"prompt {at}" for at in range(20)])
    house.start_dispatcher()
    house.start_worker(**registry_of(house.folder, remote))
    house.wait_all_completed([load])
    sent = list_events(house.api, house.actor, limit=500, action="rows.send")
    assert min(first) > 0
    assert {event.model_version for event in sent} == {remote.url}
    assert {idx for event in sent for idx in range(event.first_idx or 0, event.end_idx or 0)} == set(range(20))
