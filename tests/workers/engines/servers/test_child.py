"""vLLM as a child of the worker, a stand-in in its place: started, watched, started again, and ended with all it started."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from db.errors import TextmillError
from tests.waiting import wait_until
from tests.workers.engines.servers.stand_in import CRASH, HANG
from workers.batches.outcomes import EngineAway, FailedRow
from workers.engines.contract.decoding import Generation
from workers.engines.contract.generation import GenerateRequest, Message
from workers.engines.fake import expected_text
from workers.engines.servers import child as children
from workers.engines.servers.loading import load_server_decoder
from workers.inference.continuous import ContinuousBatcher
from workers.inference.decoder import Decoder
from workers.models.server_entry import ServerEntry

ROOT = Path(__file__).parents[4]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's, as far as anybody looks."""
    tmp_path.chmod(0o700)
    made = tmp_path / "model"
    made.mkdir(mode=0o700)
    (made / "model.safetensors").touch(0o600)
    return made


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """The interpreter of an environment that has vLLM."""
    path = tmp_path / "python"
    path.write_text(f'#!/bin/sh\nshift 2\ncd {ROOT} && exec {sys.executable} -m tests.workers.engines.servers.stand_in "$@"\n')
    path.chmod(0o700)
    return path


def entry_of(folder: Path, **more: object) -> ServerEntry:
    waits = {"timeout_seconds": 60.0, "hang_seconds": 8.0, "patience_seconds": 60.0}
    return ServerEntry(**{"id": "own", "engine": "vllm", "folder": str(folder), **waits, **more})  # type: ignore[arg-type]


@pytest.fixture
def decoder(folder: Path, python: Path) -> Iterator[Decoder]:
    engine, plan = load_server_decoder(entry_of(folder), python)
    batcher = ContinuousBatcher([engine.slots()], name="own", budget_tokens=plan.policy.budget_tokens)
    yield Decoder(engine, batcher)
    batcher.stop(drain=False)
    engine._source.end(engine._line)
    wait_until(lambda: not any(map(lives, pids(folder))), "all that was started has ended")


def lives(pid: int) -> bool:
    """Nor is it a dead process that nobody asked about."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def pids(folder: Path) -> list[int]:
    """Of all that was ever started."""
    return [int(pid) for line in (folder / "pids").read_text().splitlines() for pid in line.split()]


def chats(*prompts: str) -> list[GenerateRequest]:
    return [GenerateRequest(messages=[Message("user", prompt)], max_tokens=4) for prompt in prompts]


def test_it_answers_and_knows_no_secret_of_the_worker(
    folder: Path, python: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    for name in ("TEXTMILL_DB_PASSWORD_WORKER", "TEXTMILL_REDIS_URL", "PGPASSWORD"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1")
    decoder: Decoder = request.getfixturevalue("decoder")
    [answer] = decoder.answer(chats("hello"))
    assert isinstance(answer, Generation)
    assert (answer.text, answer.model_version) == (expected_text("hello", 4), "own@vllm+own")
    known = (folder / "environment").read_text().splitlines()
    assert not [name for name in known if name.startswith(("TEXTMILL", "PG"))]
    assert {"CUDA_VISIBLE_DEVICES", "HF_HUB_OFFLINE", "VLLM_NO_USAGE_STATS"} <= set(known)


def test_one_that_is_killed_is_started_again_and_no_row_is_lost(decoder: Decoder, folder: Path) -> None:
    decoder.answer(chats("hello"))
    os.kill(pids(folder)[0], signal.SIGKILL)
    answers = decoder.answer(chats("one", "two", "three"))
    assert [one.text for one in answers if isinstance(one, Generation)] == [expected_text(one, 4) for one in ("one", "two", "three")]
    first, beside = pids(folder)[:2]
    wait_until(lambda: not lives(first) and not lives(beside), "what it had started is ended with it")


def test_one_that_hangs_is_ended_and_started_again(decoder: Decoder, folder: Path) -> None:
    [answer] = decoder.answer(chats(f"hello {HANG}"))
    assert isinstance(answer, Generation)
    assert len(pids(folder)) == 4


def test_a_row_that_is_the_death_of_it_is_found_and_fails_alone(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(children, "LONGEST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr("workers.engines.servers.blame.CERTAIN", 4.0)  # two deaths alone: each takes a start
    prompts = ["one", f"two {CRASH}", "three", "four"]
    answers = decoder.answer(chats(*prompts))
    assert answers[1] == FailedRow("engine_error")
    assert [one.text for one in answers if isinstance(one, Generation)] == [expected_text(prompts[at], 4) for at in (0, 2, 3)]


def test_it_does_not_outlive_a_worker_that_is_killed(folder: Path, python: Path) -> None:
    program = (
        "import sys, threading; from pathlib import Path; from workers.engines.servers.loading import load_server_decoder;"
        "from workers.models.server_entry import ServerEntry;"
        "kept = load_server_decoder(ServerEntry(id='own', engine='vllm', folder=sys.argv[1]), Path(sys.argv[2]));"
        "print('ready', flush=True); threading.Event().wait()"
    )
    worker = subprocess.Popen([sys.executable, "-c", program, str(folder), str(python)], cwd=ROOT, stdout=subprocess.PIPE)
    assert worker.stdout is not None
    assert worker.stdout.readline() == b"ready\n"
    started = pids(folder)
    assert all(map(lives, started))
    worker.kill()
    worker.wait()
    worker.stdout.close()
    wait_until(lambda: not any(map(lives, started)), "all of it has ended", 20)


def test_one_that_does_not_start_says_why_and_is_away(folder: Path, python: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(EngineAway):
        load_server_decoder(entry_of(folder, arguments=("--fail",)), python)
    assert "No such option: --fail" in caplog.text


def test_what_is_no_environment_or_no_model_is_said(folder: Path, python: Path, tmp_path: Path) -> None:
    with pytest.raises(TextmillError, match="TEXTMILL_VLLM_PYTHON"):
        load_server_decoder(entry_of(folder), None)
    with pytest.raises(TextmillError, match="safetensors"):
        load_server_decoder(entry_of(tmp_path), python)
    folder.chmod(0o777)
    with pytest.raises(TextmillError, match="chmod"):
        load_server_decoder(entry_of(folder), python)
