"""From an operator's entry to an engine, and how many of its rows run at once: as many as the server is given, which `window` says."""

from functools import partial
from itertools import chain
from pathlib import Path
from typing import Final

from db.errors import TextmillError
from workers.batches.policy import Policy
from workers.engines.contract.plan import Plan
from workers.engines.servers.child import Child
from workers.engines.servers.decoder import ANY, ServerDecoder
from workers.engines.servers.encoder import LANES, POLICY, ServerEncoder
from workers.engines.servers.source import Source
from workers.models.folders import why_changeable
from workers.models.server_entry import ServerEntry

# Of a plan only the lanes and the policy are used: device and number format are the server's affair.
DECODER: Final = Plan("cpu", "float32", 1, Policy(budget_tokens=ANY, padded=False))
ENCODER: Final = Plan("cpu", "float32", LANES, POLICY)


def load_server_decoder(entry: ServerEntry, vllm_python: Path | None = None) -> tuple[ServerDecoder, Plan]:
    """``vllm_python``: the interpreter of the environment that has vLLM, for an entry that asks for it. Raises EngineAway where that does
    not get ready, TextmillError where there is none."""
    return ServerDecoder(_source(entry, vllm_python)), DECODER


def load_server_encoder(entry: ServerEntry, vllm_python: Path | None = None) -> tuple[ServerEncoder, Plan]:
    return ServerEncoder(_source(entry, vllm_python)), ENCODER


def _source(entry: ServerEntry, vllm_python: Path | None) -> Source:
    if entry.engine != "vllm":
        return Source(entry)
    if vllm_python is None or not vllm_python.expanduser().is_file():
        raise TextmillError(
            f"{entry.id} runs on vLLM: TEXTMILL_VLLM_PYTHON must name the Python of an environment that has it.", code="model_broken"
        )
    folder = Path(entry.folder).expanduser()
    if (why := why_unsafe(folder)) is not None:
        raise TextmillError(f"{entry.id}: {why}", code="model_broken")
    child = Child(entry.id, partial(vllm_command, entry, vllm_python.expanduser(), folder), without=[entry.key_variable])
    try:
        child.wait_ready()
    except BaseException:
        child.stop()
        raise
    return Source(entry, child)


def vllm_command(entry: ServerEntry, python: Path, folder: Path, socket: Path) -> list[str]:
    """No code of the folder is run, and nothing is fetched. What the operator adds comes last, so that it counts."""
    given = {"--model": str(folder), "--served-model-name": entry.named, "--uds": str(socket)}
    quiet = ["--disable-uvicorn-access-log", "--load-format", "safetensors"]
    return [str(python), "-m", "vllm.entrypoints.openai.api_server", *chain.from_iterable(given.items()), *quiet, *entry.arguments]


def why_unsafe(folder: Path) -> str | None:
    """Why a folder is not given to vLLM, which would open whatever weights lie there."""
    try:
        if any(folder.glob("*.safetensors")):
            return why_changeable(folder)
    except OSError:
        pass
    return f"{folder} holds no weights in safetensors, or cannot be read."
