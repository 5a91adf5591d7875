"""The one model in the forms that the peers load: same weights, converted once, by a program of the peer's own environment.

A conversion is made beside its place and then renamed, so that a half-written one is never loaded. Its folder is named by what went in.
"""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.benchmarks.peers import environments
from tests.benchmarks.peers.environments import Environment, reason
from tests.benchmarks.peers.protocol import PeerFailed
from tests.benchmarks.peers.texts import MAX_TOKENS

CHILDREN: Final = Path(__file__).parent / "children"
CONVERT_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class Conversion:
    """``script`` of children/ writes the folder ``name``."""

    name: str
    script: str
    environment: Environment


ONNX: Final = Conversion("onnx", "make_onnx.py", environments.SENTENCE_TRANSFORMERS_ONNX)
OPENVINO: Final = Conversion("openvino", "make_openvino.py", environments.SENTENCE_TRANSFORMERS_OPENVINO)
OPENVINO_DECODER: Final = Conversion("openvino-decoder", "make_openvino_decoder.py", environments.OPENVINO_GENAI)
CTRANSLATE: Final = Conversion("ctranslate2", "make_ctranslate.py", environments.CTRANSLATE2)


def model_folder(package: Path, cache: Path) -> Path:
    """The model as all peers load it: the package's files, with the tokenizer told to cut where the model does (the file says 512)."""
    folder = cache / "model"
    made = Path(tempfile.mkdtemp(prefix=".model-", dir=cache))
    shutil.copytree(package, made, dirs_exist_ok=True)
    settings = json.loads((package / "tokenizer_config.json").read_text())
    (made / "tokenizer_config.json").write_text(json.dumps({**settings, "model_max_length": MAX_TOKENS}))
    shutil.rmtree(folder, ignore_errors=True)
    made.rename(folder)
    return folder


def ensure(conversion: Conversion, model: Path, cache: Path, venvs: Path, texts: Path, environment: dict[str, str]) -> None:
    """Makes ``cache/<name>``. Raises PeerFailed and NotInstalled."""
    folder = cache / conversion.name
    stamp = cache / f".{conversion.name}.digest"
    wanted = _digest(conversion, model)
    if folder.is_dir() and stamp.exists() and stamp.read_text() == wanted:
        return
    python = environments.ensure(conversion.environment, venvs)
    made = Path(tempfile.mkdtemp(prefix=f".{conversion.name}-", dir=cache))
    try:
        _run([str(python), str(CHILDREN / conversion.script), str(model), str(made), str(texts)], environment)
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
        stamp.write_text(wanted)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _run(command: Sequence[str], environment: dict[str, str]) -> None:
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=CONVERT_SECONDS)
    except subprocess.TimeoutExpired:
        raise PeerFailed(f"its conversion took more than {CONVERT_SECONDS:.0f} s") from None
    if done.returncode != 0:
        raise PeerFailed(f"its conversion failed: {reason(done.stderr)}")


def _digest(conversion: Conversion, model: Path) -> str:
    digest = hashlib.sha256((CHILDREN / conversion.script).read_bytes())
    digest.update("\n".join(conversion.environment.requirements).encode())
    with (model / "model.safetensors").open("rb") as file:
        digest.update(hashlib.file_digest(file, "sha256").digest())
    digest.update(
        (Path("/proc/cpuinfo").read_bytes().partition(b"flags")[2].partition(b"\n")[0]) if os.path.exists("/proc/cpuinfo") else b""
    )
    return digest.hexdigest()
