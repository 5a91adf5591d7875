"""The parts of `make gpu`, each run in a process of its own and held to its time: what crashes, hangs or breaks a GPU context takes no
other part along. Nothing is imported here that a bare Python has not, so that a machine without our packages is told so."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from tests.gpu.finding import Check, Outcome, Setting

ROOT: Final = Path(__file__).parents[2]
WHOLE_SECONDS: Final = 480.0
LEAST_SECONDS: Final = 10.0  # with less left a part is not begun
GRACE_SECONDS: Final = 20.0  # for a part that is told to end: it may have a stack to stop
SAID_LINES: Final = 12
QUIET: Final = {
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "PYTHONUNBUFFERED": "1",
}


@dataclass(frozen=True, slots=True)
class Part:
    """``limit_seconds``: on a GPU, with room to spare."""

    name: str
    proves: str
    limit_seconds: float
    module: str = ""

    @property
    def where(self) -> str:
        return self.module or f"tests.gpu.parts.{self.name}"


PARTS: Final = (
    Part("pinning", "a process sees the one GPU it is given, in nvidia-smi's order, and runs on the cores beside it", 60),
    Part("formats", "every family of encoders answers in fp32, fp16 and bf16 as transformers does in fp32", 60),
    Part("varlen", "attention over all sequences in one call agrees with attention length by length, and is no slower", 45),
    Part("copies", "a batch is copied from pinned memory while the one before computes, and is whole when it is used", 45),
    Part("lanes", "two lanes over one model answer as one does", 45),
    Part("memory", "a batch that does not fit the GPU is halved until it does; no row is lost and the budget grows back", 60),
    Part("killing", "a killed worker's GPU memory is free again, its shard is taken up, and every row is answered once", 120),
    Part("whole", "rows a second from upload to results read, beside the bare loop, and how busy the GPU is", 150),
    Part("sizes", "tokens a second of encoders of BERT-base and BERT-large size, and what half precision changes", 90),
    Part("decoding", "a decoder's tokens a second, and that a batch changes no answer", 90),
    Part("peers", "documents a second against sentence-transformers on the same GPU", 90),
)


def run_suite(
    parts: Sequence[Part], setting: Setting, *, say: Callable[[str], None], whole_seconds: float = WHOLE_SECONDS
) -> list[Outcome]:
    """Each in turn; what no time is left for could not run."""
    until = time.monotonic() + whole_seconds
    unusable = why_no_cuda() if setting.on_gpu else ""
    outcomes = []
    for part in parts:
        left = until - time.monotonic()
        if unusable:
            outcome = Outcome(part.name, part.proves, "could not run", 0.0, why=unusable)
        elif left < LEAST_SECONDS:
            outcome = Outcome(part.name, part.proves, "could not run", 0.0, why=f"the {whole_seconds:.0f} s of this run were used up")
        else:
            outcome = run_part(part, setting, min(part.limit_seconds, left))
        outcomes.append(outcome)
        failed = [f"{check.what} ({check.found})" for check in outcome.checks if not check.passed]
        say(f"{part.name:10} {outcome.verdict:14} {outcome.seconds:5.1f} s  {outcome.why or '; '.join(failed)}")
    return outcomes


def run_part(part: Part, setting: Setting, limit_seconds: float) -> Outcome:
    folder = setting.folder / part.name
    folder.mkdir(parents=True)
    answer, log = folder / "outcome.json", folder / "log"
    command = [sys.executable, "-m", "tests.gpu.child", part.where, str(answer), setting.device, "quick" if setting.quick else "whole"]
    began = time.monotonic()
    with log.open("wb") as file:
        child = subprocess.Popen(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL, env=_environment(), start_new_session=True)
        try:
            code: int | None = child.wait(limit_seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:  # also where the run itself is being ended
            _end(child)
    seconds = time.monotonic() - began
    if code is None:
        return Outcome(part.name, part.proves, "could not run", seconds, why=f"it was not done after {limit_seconds:.0f} s: {_said(log)}")
    try:
        found = json.loads(answer.read_text())
    except (OSError, ValueError):
        how = f"signal {-code}" if code < 0 else f"code {code}"
        return Outcome(part.name, part.proves, "could not run", seconds, why=f"its process ended with {how}: {_said(log)}")
    return read_outcome(part, seconds, found)


def read_outcome(part: Part, seconds: float, found: Mapping[str, Any]) -> Outcome:
    known = {field.name for field in fields(Outcome)}
    checks = [Check(**check) for check in found.get("checks", [])]
    return Outcome(
        part=part.name, proves=part.proves, seconds=seconds, checks=checks, **{k: v for k, v in found.items() if k in known - {"checks"}}
    )


def why_no_cuda() -> str:
    """Empty where torch gets at the GPU. Asked in a process of its own: the answer makes a context."""
    code = "import torch; print(torch.__version__, torch.version.cuda, torch.cuda.is_available())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=_environment(), check=False)
    if done.returncode:
        return f"torch cannot be imported: {(done.stderr.strip().splitlines() or ['no word why'])[-1]}"
    version, cuda, available = done.stdout.split()[-3:]
    if cuda == "None":
        return f"torch {version} is built without CUDA; install a CUDA build, or use the torch of a Python that has one"
    if available != "True":
        return f"torch {version} for CUDA {cuda} sees no GPU here: the driver may be too old, or CUDA_VISIBLE_DEVICES empty"
    return ""


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """Whatever did not pass fails the run, on a GPU or of what a CPU can check; so does a run that had nothing to do."""
    return int(not outcomes or any(outcome.verdict != "pass" for outcome in outcomes))


def _environment() -> dict[str, str]:
    """The suite importable in the child and in what it starts, and no stack or key of the shell's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TEXTMILL_")}
    return {**kept, **QUIET, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}


def _end(child: "subprocess.Popen[bytes]") -> None:
    """Asks, waits, kills; the whole session of it, for a part starts processes of its own."""
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            child.wait(GRACE_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _said(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return " | ".join(lines[-SAID_LINES:]) or "it said nothing"
