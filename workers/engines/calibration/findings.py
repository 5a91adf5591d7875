"""What a calibration found, and how it is kept: in a folder, one file for each machine, model, set of versions and core count."""

import hashlib
import json
import logging
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, Literal

from filelock import FileLock, Timeout

from db.private_files import make_private_folder
from workers.engines.calibration.attempts import Attempts
from workers.engines.contract.plan import EngineName, NumberFormat
from workers.machine.cpu import CAPS
from workers.models.card import Kind

LAYOUT: Final = 4  # of a stored finding, and of how it is found: a higher one makes findings anew
PACKAGES: Final = ("torch", "openvino", "onnxruntime", "onnx", "tokenizers", "transformers", "textmill")

log = logging.getLogger("textmill.engines")

Verdict = Literal["chosen", "slower", "disagrees", "not here"]


@dataclass(frozen=True, slots=True)
class Trial:
    """What was found of one candidate. Figures are None where it did not come to that.

    ``agreement``: the share of labels, or of next tokens, that are fp32's. ``difference`` from fp32: the greatest of any label's
    probability; of a decoder the mean Kullback-Leibler divergence of the next token's distribution, in nats. ``slots``: of each lane."""

    engine: EngineName
    format: NumberFormat
    verdict: Verdict
    reason: str
    agreement: float | None = None
    difference: float | None = None
    tokens_per_second: float | None = None
    lanes: int | None = None
    threads: int | None = None
    budget_tokens: int | None = None
    slots: int | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """All trials, the chosen one among them, and what they cost.

    `packed`: the model runs without padding where the engine can. `texts` is how many bf16 and int8 were held to; of a decoder, how many
    tokens of them. `disturbed`: other work
    ran beside all that was timed of some way, so that it says less than it could; `tries`: how often it was made by now."""

    model: str
    weights: str
    packed: bool
    texts: int
    seconds: float
    trials: tuple[Trial, ...]
    kind: Kind = "encoder"
    disturbed: bool = False
    tries: int = 1

    @property
    def chosen(self) -> Trial:
        return next(trial for trial in self.trials if trial.verdict == "chosen")


def find(folder: Path, key: str) -> Finding | None:
    """A finding made before under this key; None where there is none or it cannot be read."""
    try:
        stored = json.loads(_path(folder, key).read_text())
        return Finding(**{**stored, "trials": tuple(Trial(**trial) for trial in stored["trials"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def keep(folder: Path, key: str, finding: Finding) -> None:
    """Whole or not at all. A folder that cannot be written to only means that the next process calibrates again, and is told."""
    path = _path(folder, key)
    try:
        make_private_folder(path.parent)
        half = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
        half.write_text(json.dumps(asdict(finding), indent=1))
        half.replace(path)
    except OSError as error:
        log.warning(
            "%s: what calibration found cannot be kept in %s (%s), so each start finds it out anew; give TEXTMILL_CALIBRATION_FOLDER a "
            "folder that can be written to and stays",
            finding.model,
            folder,
            error.strerror or "the operating system refused",
        )


@contextmanager
def alone(folder: Path, *, wait: bool = True) -> Iterator[bool]:
    """One calibration at a time on this folder; without a lock where it cannot be written to. False where another process has it and `wait`
    is off."""
    with ExitStack() as held:
        mine = True
        try:
            make_private_folder(folder)
            held.enter_context(FileLock(folder / ".lock", blocking=wait, fallback_to_soft=False))
        except Timeout:
            mine = False
        except OSError:
            pass
        yield mine


def attempts(folder: Path, key: str) -> Attempts:
    return Attempts(_path(folder, key).with_suffix(".tried"))


def key_of(weights: str, flags: frozenset[str], cores: int, *, engine: str | None, number_format: str | None) -> str:
    """Everything that a finding depends on: machine, versions, model, what the environment forbids, what was asked for."""
    facts = [
        str(LAYOUT),
        platform.machine(),
        _cpu_model(),
        *sorted(flags),
        str(cores),
        weights,
        *(f"{name}={_version(name)}" for name in PACKAGES),
        *(f"{name}={os.environ.get(name, '')}" for name in CAPS),
        str(engine),
        str(number_format),
    ]
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()[:32]


def _path(folder: Path, key: str) -> Path:
    return folder / f"{key}.json"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return " ".join(line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "model\t")))[:200]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "-"
