"""A worker's device, as a fresh process sees it after `pin`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.gpu.card import cards
from tests.gpu.finding import CannotRun, Finding, Setting
from workers.machine.cores import read_cpulist
from workers.machine.gpus import Device, devices, installed

BUS = Path("/sys/bus/pci/devices")
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


HIDING = ("-1", "NoDevFiles", "63", "63,0", "0,0")  # values of CUDA_VISIBLE_DEVICES that leave nothing


def run(setting: Setting) -> Finding:
    found = Finding()
    seen = _ask(SEES, "cpu")
    found.check("pinned to the CPU, torch sees no GPU", seen["device"] == "cpu" and seen["seen"] == 0, seen["seen"])
    threads, a_lane, lanes, cores = seen["threads"]
    found.check("OpenMP has a lane's threads", int(threads) == a_lane and a_lane * lanes <= max(cores, lanes), threads)
    found.check("a GPU that is not there is refused", _refuses("cuda:63"))
    found.check("pinning after torch is refused", _refuses("cpu", before="import torch"))
    for hiding in HIDING:
        seen = _ask(SEES, "auto", CUDA_VISIBLE_DEVICES=hiding)
        found.check(f"CUDA_VISIBLE_DEVICES={hiding} leaves the CPU", seen["device"] == "cpu" and seen["seen"] == 0, seen["device"])
    if setting.on_gpu:
        _gpus(found)
    return found


def _gpus(found: Finding) -> None:
    listed = cards()
    if not listed:
        raise CannotRun("nvidia-smi does not list the GPUs, so there is nothing to hold torch's view against")
    found.figures["gpus"] = len(listed)
    if os.environ.get("CUDA_VISIBLE_DEVICES") is not None:
        found.notes.append("CUDA_VISIBLE_DEVICES is set here, so only what it allows was pinned")
        return
    there = installed()
    facts = [(gpu.index, gpu.uuid, gpu.pci) for gpu in there]
    found.check("nvidia-smi's GPUs are found", facts == [(card.index, card.uuid, card.pci) for card in listed], len(facts))
    all_devices = devices(there)
    found.figures["devices"] = len(all_devices)
    worked_on: dict[str, set[int]] = {}
    for place, device in enumerate(all_devices):
        seen = _ask(SEES, f"cuda:{place}")
        found.check(f"{device.name} is the only device seen", seen["seen"] == 1 and seen["device"] == device.name, seen["device"])
        found.check(f"{device.name}: in the order of the bus", seen["order"] == "PCI_BUS_ID", seen["order"])
        worked_on[device.name] = set(seen["cores"])
        if device.gpu is not None and not device.gpu.cut:
            _by_other_names(device, seen, found)
        _near(device, seen, found)
    shared = [one for one in worked_on.values() for other in worked_on.values() if one is not other and one & other]
    enough = len(os.sched_getaffinity(0)) >= 2 * len(all_devices)
    found.check("no two are worked for on the same core", not shared or not enough, f"{len(os.sched_getaffinity(0))} cores")
    from api.local.processes.devices import devices as of_up

    found.check("`textmill up` starts a worker a device", len(of_up()) == len(all_devices), of_up())


def _by_other_names(device: Device, seen: dict[str, Any], found: Finding) -> None:
    """A whole GPU, as nvidia-smi's number and its UUID, whole and cut short, name it."""
    assert device.gpu is not None
    uuid = device.gpu.uuid
    if seen["uuid"]:
        found.check(f"{device.name} is nvidia-smi's number {device.gpu.index}", uuid.endswith(seen["uuid"]), seen["name"])
    for name in (str(device.gpu.index), uuid, uuid[:12]):
        again = _ask(SEES, "cuda:0", CUDA_VISIBLE_DEVICES=name)
        same = all(again[fact] == seen[fact] for fact in ("device", "uuid", "cores"))
        found.check(f"CUDA_VISIBLE_DEVICES={name[:12]} is {device.name}", same, again["device"])
    found.check("one beyond it is refused", _refuses("cuda:1", CUDA_VISIBLE_DEVICES=uuid))


def _near(device: Device, seen: dict[str, Any], found: Finding) -> None:
    pci = device.gpu.pci if device.gpu is not None else ""
    try:
        near = read_cpulist((BUS / pci / "local_cpulist").read_text()) & os.sched_getaffinity(0)
    except (OSError, ValueError):
        found.notes.append(f"the kernel does not say which cores are beside {pci}: all count as near")
        return
    cores = set(seen["cores"])
    found.check(f"{device.name} is worked for on cores beside it", bool(cores) and (not near or cores <= near), f"{len(cores)} cores")


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
