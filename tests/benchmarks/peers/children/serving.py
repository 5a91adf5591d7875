"""The loop of a peer's process, inside the peer's environment: it must need nothing but numpy. See tests/benchmarks/peers/protocol.py.

What the libraries print goes to stderr, so that stdout holds only our lines. Time runs from texts in memory to labels in memory; loading
the model and reading the request do not count.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

MAX_TOKENS = 256


@dataclass(frozen=True)
class Arguments:
    """``model``: the folder of safetensors and tokenizer. ``made``: where converted models lie. ``threads``: CPUs there are to use.
    ``prototypes``: [K, d] as JSON, or None where only vectors are asked for."""

    model: Path
    made: Path
    threads: int
    prototypes: Path | None
    option: str


class Labeller(Protocol):
    """``settings``: what the report says about how it was run."""

    settings: dict[str, Any]

    def label(self, texts: Sequence[str], prototypes: Any) -> list[int]: ...


class Writer(Protocol):
    """``settings``: as a labeller's."""

    settings: dict[str, Any]

    def write(self, prompts: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
        """For a text and the most tokens of each prompt: the answer, and its tokens without the one that ended it."""


class Embedding:
    """A labeller out of a function that embeds: [n, d] of unit length for n texts."""

    def __init__(self, embed: Callable[[list[str]], Any], **settings: Any) -> None:
        self._embed = embed
        self.settings = settings

    def vectors(self, texts: Sequence[str]) -> Any:
        return np.asarray(self._embed(list(texts)), dtype=np.float32)

    def label(self, texts: Sequence[str], prototypes: Any) -> list[int]:
        return nearest(self.vectors(texts), prototypes)


def nearest(vectors: Any, prototypes: Any) -> list[int]:
    """The index of the prototype with the highest cosine; both are unit vectors."""
    return [int(index) for index in np.argmax(vectors @ prototypes.T, axis=1)]


def load_prototypes(path: Path) -> Any:
    return np.array(json.loads(path.read_text()), dtype=np.float32)


def serve(load: Callable[[Arguments], Labeller | Writer]) -> None:
    """Until stdin ends."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)

    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer).encode() + b"\n")

    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--made", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--prototypes", type=Path)
    parser.add_argument("--option", default="")
    arguments = Arguments(**vars(parser.parse_args()))
    prototypes = None if arguments.prototypes is None else load_prototypes(arguments.prototypes)
    try:
        peer = load(arguments)
    except Exception as error:  # whatever a library raises while it loads is a row of the table, not the end of the benchmark
        say({"failed": f"{type(error).__name__}: {first_line(error)}"})
        raise
    say({"ready": True, "settings": peer.settings})
    for line in sys.stdin:
        try:
            say(_answer(peer, json.loads(line), prototypes))
        except Exception as error:
            say({"failed": f"{type(error).__name__}: {first_line(error)}"})
            raise


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0]


def _answer(peer: Any, request: dict[str, Any], prototypes: Any) -> dict[str, Any]:
    if "prompts" in request:
        prompts = json.loads(Path(request["prompts"]).read_text())
        began = time.perf_counter()
        said = peer.write(prompts)
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "texts": [text for text, _ in said], "tokens": [tokens for _, tokens in said]}
    everything = json.loads(Path(request["texts"]).read_text())
    texts = [everything[row] for row in request["rows"]]
    if "vectors" in request:
        assert isinstance(peer, Embedding), "it gives labels only"
        began = time.perf_counter()
        vectors = peer.vectors(texts)
        seconds = time.perf_counter() - began
        np.save(request["vectors"], vectors)
        return {"seconds": seconds, "labels": [0] * len(texts)}
    began = time.perf_counter()
    labels = peer.label(texts, prototypes)
    return {"seconds": time.perf_counter() - began, "labels": labels}
