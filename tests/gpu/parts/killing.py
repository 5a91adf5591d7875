"""kill -9 of a process that holds a GPU context: its memory is there again, and its work goes on elsewhere."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from typing import Final

from api.local.home.home import Home
from api.local.home.instance import read_state
from tests.benchmarks.mill import Mill, running
from tests.gpu import jobs
from tests.gpu.card import own_index, reader
from tests.gpu.finding import CannotRun, Finding, Setting
from tests.gpu.models import make, texts
from tests.waiting import wait_until

HELD_BYTES: Final = 2 << 30
NOISE_BYTES: Final = 256 << 20  # what others on the card, or the driver, may take or give meanwhile
FREED_SECONDS: Final = 10.0
STARTED_SECONDS: Final = 60.0
HOLDS = f"""
import signal, torch
held = torch.ones({HELD_BYTES}, dtype=torch.uint8, device="cuda")
torch.cuda.synchronize()
print("held", flush=True)
signal.pause()
"""


def run(setting: Setting) -> Finding:
    found = Finding()
    if setting.on_gpu:
        _memory_comes_back(found)
    models = setting.folder / "models"
    model = make("minilm-size" if setting.on_gpu else "tiny", models)
    rows = texts(model, 150_000 if setting.on_gpu else 2_000)
    with running(setting.folder / "mill", jobs.settings(models, on_gpu=setting.on_gpu)) as mill:
        jobs.through(mill, f"local:{model.name}", rows[:50])
        began = time.perf_counter()
        batch = jobs.begin(mill.client, f"local:{model.name}", rows)
        first = _worker(mill)
        done = _begun(mill, batch.id)
        os.kill(first, signal.SIGKILL)
        killed = time.perf_counter()
        answered = jobs.finish(mill.client, mill.client.batch(batch.id), began)
        second = _worker(mill)
    found.check("the kill came in the middle of the job", 0 < done < len(rows), f"{done} of {len(rows)} rows were done")
    found.check("another process does the rest", second != first)
    counted = Counter(answered.ids)
    found.check("every row is answered", len(counted) == len(rows) and answered.failed == 0, f"{len(counted)} of {len(rows)}")
    found.check("none twice", len(answered.ids) == len(counted), f"{len(answered.ids) - len(counted)} twice")
    found.figures |= {"rows": len(rows), "seconds_after_the_kill": round(began + answered.seconds - killed, 2)}
    return found


def _memory_comes_back(found: Finding) -> None:
    read, way = reader(own_index())

    def used() -> int:
        reading = read()
        if reading is None:
            raise CannotRun(f"{way} does not tell how much of the GPU's memory is in use")
        return reading.used_bytes

    before = used()
    holder = subprocess.Popen([sys.executable, "-c", HOLDS], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    try:
        said = holder.stdout.readline().strip()
        assert said == b"held", "a process could not take two gigabytes of the GPU"
        held = used()
        holder.kill()
        killed = time.perf_counter()
        with suppress(AssertionError):  # a check below says so
            wait_until(lambda: used() <= before + NOISE_BYTES, "its memory is free", FREED_SECONDS)
        took, now = time.perf_counter() - killed, used()
    finally:
        holder.kill()
        holder.wait()
    found.check("a context takes memory that the driver sees", held - before >= HELD_BYTES, f"{(held - before) >> 20} MiB")
    found.check("after kill -9 it is free", now <= before + NOISE_BYTES, f"{(now - before) >> 20} MiB more than before")
    found.figures |= {"freed_after_seconds": round(took, 2), "context_mib": (held - before - HELD_BYTES) >> 20}


def _worker(mill: Mill) -> int:
    """The process id of the stack's first worker that runs now; a new one where it was killed."""

    def look() -> int | None:
        children = read_state(Home(mill.home)).get("children", {})
        assert isinstance(children, dict)
        return next((int(pid) for name, pid in sorted(children.items()) if name.startswith("worker")), None)

    found = wait_until(look, "the stack has a worker", STARTED_SECONDS)
    assert found is not None
    return found


def _begun(mill: Mill, batch_id: str) -> int:
    """Rows that are done, once some are."""
    return wait_until(lambda: mill.client.batch(batch_id).counts.done, "a row of the job is done", STARTED_SECONDS)
