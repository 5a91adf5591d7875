"""A worker's device, as a fresh process sees it after `pin`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.gpu.card import Card, cards
from tests.gpu.finding import CannotRun, Finding, Setting
from workers.host.device import PCI_DEVICES, parse_cpulist

SEES = """
import json, os, sys
from workers.host.device import pin
pinned = pin(sys.argv[1])
import torch
seen = torch.cuda.device_count()
facts = {"device": pinned.device, "seen": seen, "cores": sorted(os.sched_getaffinity(0)), "order": os.environ["CUDA_DEVICE_ORDER"]}
facts["threads"] = [os.environ["OMP_NUM_THREADS"], pinned.threads_per_lane, pinned.lanes, pinned.cores]
if seen:
    torch.zeros(1, device="cuda")  # a context, on the only device there is
    properties = torch.cuda.get_device_properties(0)
    facts["name"], facts["uuid"] = properties.name, str(getattr(properties, "uuid", ""))
print(json.dumps(facts))
"""
REFUSED = """
import sys
from db.errors import SettingsError
from workers.host.device import pin
{before}
try:
    pin(sys.argv[1])
except SettingsError:
    print("refused")
"""


def run(setting: Setting) -> Finding:
    found = Finding()
    seen = _ask(SEES, "cpu")
    found.check("pinned to the CPU, torch sees no GPU", seen["device"] == "cpu" and seen["seen"] == 0, seen["seen"])
    threads, a_lane, lanes, cores = seen["threads"]
    found.check("OpenMP has a lane's threads", int(threads) == a_lane and a_lane * lanes <= max(cores, lanes), threads)
    found.check("a GPU that is not there is refused", _refuses("cuda:63"))
    found.check("pinning after torch is refused", _refuses("cpu", before="import torch"))
    if setting.on_gpu:
        _gpus(found)
    return found


def _gpus(found: Finding) -> None:
    listed = cards()
    if not listed:
        raise CannotRun("nvidia-smi does not list the GPUs, so there is nothing to hold torch's view against")
    found.figures["gpus"] = len(listed)
    narrowed = os.environ.get("CUDA_VISIBLE_DEVICES") is not None
    if narrowed:
        found.notes.append("CUDA_VISIBLE_DEVICES is set here, so only what it allows was pinned")
        return
    for card in listed:
        seen = _ask(SEES, f"cuda:{card.index}")
        found.check(f"cuda:{card.index} is the only GPU seen", seen["seen"] == 1, seen["seen"])
        found.check("in the order of the bus", seen["order"] == "PCI_BUS_ID", seen["order"])
        if seen["uuid"] and not card.mig:
            found.check(f"it is nvidia-smi's number {card.index}", card.uuid.endswith(seen["uuid"]), f"{seen['name']}")
        _near(card, seen, found)
    if not listed[-1].mig:
        seen = _ask(SEES, "cuda:0", CUDA_VISIBLE_DEVICES=listed[-1].uuid)
        found.check("of the GPUs a scheduler allows, the first", listed[-1].uuid.endswith(seen["uuid"] or "unknown"), seen["uuid"])
        found.check("one beyond them is refused", _refuses("cuda:1", CUDA_VISIBLE_DEVICES=listed[-1].uuid))
    from api.local.processes.devices import devices

    found.check("`textmill up` starts a worker a GPU", devices() == [f"cuda:{card.index}" for card in listed], devices())


def _near(card: Card, seen: dict[str, Any], found: Finding) -> None:
    beside = PCI_DEVICES / card.pci / "local_cpulist"
    try:
        near = parse_cpulist(Path(beside).read_text()) & os.sched_getaffinity(0)
    except (OSError, ValueError):
        found.notes.append(f"the kernel does not say which cores are beside {card.pci}: the affinity is left alone")
        return
    expected = near or os.sched_getaffinity(0)
    found.check(f"cuda:{card.index} is worked for on the cores beside it", set(seen["cores"]) == expected, f"{len(seen['cores'])} cores")


def _ask(code: str, device: str, **environment: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", code, device], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"pinning to {device} failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def _refuses(device: str, *, before: str = "", **environment: str) -> bool:
    done = subprocess.run(
        [sys.executable, "-c", REFUSED.format(before=before), device],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() == "refused"
