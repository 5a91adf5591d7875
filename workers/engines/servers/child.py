"""A server that this process starts for a model, watches, and ends: vLLM, out of an environment of its own.

It listens on a socket in a folder that nobody else may enter, sees the GPU that this process is pinned to, and gets no setting of textmill:
no password and no key. What it prints may hold texts, so it is told only where it ends before it was ever ready, when it had been sent
none. One that ends is started again, with backoff; one that hangs is ended first. It does not outlive this process (`guardian`).
"""

import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Final

import httpx

from workers.batches.outcomes import EngineAway
from workers.loop_guard import Guard, on_duty

START_SECONDS: Final = 900.0  # until it is ready: tens of gigabytes are read, and graphs captured
HEALTH_SECONDS: Final = 0.2  # between two looks
END_SECONDS: Final = 10.0
STEADY_SECONDS: Final = 60.0  # one that ran for so long is started again at once
FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 60.0
LAST_LINES: Final = 12
NOT_ITS_AFFAIR: Final = ("TEXTMILL_", "PG")
QUIET: Final = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}

log = logging.getLogger("textmill.servers")


class Child:
    """``command(socket)``: what is started. ``name``: for logs."""

    def __init__(self, name: str, command: Callable[[Path], Sequence[str]], *, without: Sequence[str] = ()) -> None:
        self._name = name
        self._folder = Path(tempfile.mkdtemp(prefix="textmill-"))  # short: a socket's path has an end; for this user alone
        self.socket = self._folder / "server"
        self._command = command
        self._environment = environment_for(os.environ, without)
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._begun = threading.Event()  # it was ready, or has ended
        self._stopping = threading.Event()
        self._watcher = on_duty(self._watch, f"{name}-child")
        self._watcher.start()

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        """Raises EngineAway where it is not ready by then, or ended before it was."""
        self._begun.wait(seconds)
        if not self._ready.is_set():
            raise EngineAway(LONGEST_PAUSE_SECONDS)

    def restart(self) -> None:
        """It hangs: the one that runs is ended, and another started."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)

    def stop(self) -> None:
        self._stopping.set()
        with self._lock:
            process = self._process
            if process is not None and process.stdin is not None:
                process.stdin.close()
        if process is not None:
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
        self._watcher.join(END_SECONDS)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _watch(self) -> None:
        pause, guard = FIRST_PAUSE_SECONDS, Guard(log, f"the start of the server of {self._name}")
        while not self._stopping.is_set():
            began = time.monotonic()
            with guard:
                self._run_once()
            pause = FIRST_PAUSE_SECONDS if time.monotonic() - began > STEADY_SECONDS else min(LONGEST_PAUSE_SECONDS, 2 * pause)
            if self._stopping.wait(pause):
                return

    def _run_once(self) -> None:
        self.socket.unlink(missing_ok=True)
        with self._lock:
            if self._stopping.is_set():
                return
            guardian = [sys.executable, "-I", "-S", str(Path(__file__).with_name("guardian.py"))]
            self._process = process = subprocess.Popen(  # noqa: S603 -- the operator's
                [*guardian, *self._command(self.socket)],
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        assert process.stdout is not None
        lines: deque[str] = deque(maxlen=LAST_LINES)
        reader = on_duty(partial(self._read, process.stdout, lines), f"{self._name}-output")
        reader.start()
        was_ready = self._await_ready(process)
        if was_ready:
            log.info("%s: its server is ready", self._name)
            self._ready.set()
            self._begun.set()
        process.wait()
        self._ready.clear()
        reader.join(END_SECONDS)
        process.stdout.close()
        if not self._stopping.is_set():
            told = "" if was_ready else ":\n" + "\n".join(lines)
            log.error("%s: its server ended%s%s", self._name, "" if was_ready else " before it was ready", told)
        self._begun.set()

    def _await_ready(self, process: "subprocess.Popen[bytes]") -> bool:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(self.socket)), trust_env=False, timeout=5.0) as client:
            while process.poll() is None and not self._stopping.is_set():
                try:
                    if client.get("http://localhost/health").status_code == 200:
                        return True
                except httpx.HTTPError:
                    pass
                self._stopping.wait(HEALTH_SECONDS)
        return False

    def _read(self, output: IO[bytes], lines: deque[str]) -> None:
        """To its end, so that it never waits for a reader. Kept until it is ready."""
        for line in output:
            if self._ready.is_set():
                lines.clear()
            else:
                lines.append(line.decode(errors="replace").rstrip()[:500])


def environment_for(own: Mapping[str, str], without: Sequence[str]) -> dict[str, str]:
    """What a child may know of this process's environment."""
    return {name: value for name, value in own.items() if not name.startswith(NOT_ITS_AFFAIR) and name not in without} | QUIET
