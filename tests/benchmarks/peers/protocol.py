"""A peer's process, from the benchmark's side: one JSON line in, one out.

In: {"texts": FILE, "prototypes": FILE, "rows": [indices]} (and "vectors": FILE to have the vectors written there, as .npy). Out:
{"seconds", "labels"}, where a label is the index of the prototype with the highest cosine. To those that write: {"prompts": FILE}, which
holds [text, most tokens] of each, and {"seconds", "tokens", "texts"} back, of each prompt in order. The first line out, once the model is
loaded and warm, is {"ready", "settings", "docs_per_second"}; what cannot be loaded says {"failed": REASON}.
"""

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import psutil

from tests.benchmarks.watching import cpu_seconds

END_SECONDS = 10.0
MAX_REASON_CHARS = 200


class PeerFailed(Exception):
    """It does not load, has died, or has not answered in time. With a sentence that the table can show."""


@dataclass(frozen=True, slots=True)
class Run:
    """One timed run: ``docs`` texts, their labels by index, and what the process and all below it used of the CPU."""

    seconds: float
    cpu_seconds: float
    labels: tuple[int, ...]

    @property
    def docs(self) -> int:
        return len(self.labels)

    @property
    def docs_per_second(self) -> float:
        return self.docs / self.seconds

    @property
    def docs_per_cpu_second(self) -> float:
        return self.docs / self.cpu_seconds if self.cpu_seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Said:
    """One timed run of prompts: how many ``tokens`` each was answered with (the one that ends an answer is not counted), and the texts."""

    seconds: float
    cpu_seconds: float
    tokens: int
    texts: tuple[str, ...]

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds

    @property
    def tokens_per_cpu_second(self) -> float:
        return self.tokens / self.cpu_seconds if self.cpu_seconds > 0 else 0.0


class Peer:
    """Starts with the object; `ready` waits until it can be timed. Ends with `end`, and everything it started with it."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        with log.open("wb") as output:
            # A session of its own: nobody's Ctrl-C but ours reaches it, and all of it can be ended.
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output, env=dict(environment), start_new_session=True
            )
        self._log = log
        self._rest = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    def ready(self, timeout_seconds: float) -> dict[str, object]:
        """What it says of itself. Raises PeerFailed."""
        answer = self._answer(timeout_seconds)
        if "failed" in answer:
            raise PeerFailed(str(answer["failed"])[:MAX_REASON_CHARS])
        return answer

    def run(
        self,
        texts: Path,
        prototypes: Path,
        rows: Sequence[int],
        *,
        timeout_seconds: float,
        others: Mapping[str, int],
        vectors: Path | None = None,
    ) -> Run:
        """``others``: processes outside of its own that work for it (a broker), by name; their CPU is counted too. Raises PeerFailed."""
        request: dict[str, object] = {"texts": str(texts), "prototypes": str(prototypes), "rows": list(rows)}
        if vectors is not None:
            request["vectors"] = str(vectors)
        answer, spent = self._timed(request, timeout_seconds, others)
        labels = tuple(cast("list[int]", answer["labels"]))
        if len(labels) != len(rows):
            raise PeerFailed(f"it answered {len(labels)} of {len(rows)} texts")
        return Run(cast("float", answer["seconds"]), spent, labels)

    def write(self, prompts: Path, count: int, *, timeout_seconds: float) -> Said:
        """``prompts``: a file of ``count`` pairs of a text and its most tokens. Raises PeerFailed."""
        answer, spent = self._timed({"prompts": str(prompts)}, timeout_seconds, {})
        texts, tokens = cast("list[str]", answer["texts"]), cast("list[int]", answer["tokens"])
        if len(texts) != count or len(tokens) != count:
            raise PeerFailed(f"it answered {len(texts)} of {count} prompts")
        return Said(cast("float", answer["seconds"]), spent, sum(tokens), tuple(texts))

    def _timed(self, request: dict[str, object], timeout_seconds: float, others: Mapping[str, int]) -> tuple[dict[str, object], float]:
        """The answer, and the CPU seconds of it."""
        watched = {"peer": self.pid, **others}
        used = cpu_seconds(watched)
        self._say(request)
        answer = self._answer(timeout_seconds)
        if "failed" in answer:
            raise PeerFailed(str(answer["failed"])[:MAX_REASON_CHARS])
        return answer, sum(total - used.get(name, 0.0) for name, total in cpu_seconds(watched).items())

    def end(self) -> None:
        """Asks, waits, then kills it and what it has started."""
        below = self._below()
        with suppress(OSError, ValueError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)
        for process in below:
            with suppress(psutil.NoSuchProcess):  # psutil checks that the pid is still the same process
                process.kill()
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        psutil.wait_procs(below, END_SECONDS)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _below(self) -> list[psutil.Process]:
        try:
            return list(psutil.Process(self.pid).children(recursive=True))
        except psutil.NoSuchProcess:
            return []

    def _say(self, request: dict[str, object]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise PeerFailed(f"it has ended: {self.last_words()}") from None

    def _answer(self, timeout_seconds: float) -> dict[str, object]:
        assert self._process.stdout is not None
        until = time.monotonic() + timeout_seconds
        file = self._process.stdout.fileno()
        while b"\n" not in self._rest:
            ready, _, _ = select.select([file], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise PeerFailed(f"no answer within {timeout_seconds:.0f} s")
            read = os.read(file, 1 << 20)
            if not read:
                raise PeerFailed(f"it has ended: {self.last_words()}")
            self._rest += read
        line, _, self._rest = self._rest.partition(b"\n")
        try:
            answer = json.loads(line)
        except ValueError:
            raise PeerFailed("it did not answer in JSON") from None
        if not isinstance(answer, dict):
            raise PeerFailed("it did not answer with an object")
        return answer

    def last_words(self) -> str:
        lines = self._log.read_bytes().decode(errors="replace").strip().splitlines()
        return lines[-1].strip()[:MAX_REASON_CHARS] if lines else "without a word"
