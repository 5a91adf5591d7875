"""A model's chat template, filled by a process of its own (:mod:`workers.engines.decoders.wording.template_process`)."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from workers.engines.decoders.wording import template_process
from workers.engines.folders.files import broken

PROGRAM: Final = str(Path(template_process.__file__))
KEPT: Final = ("TZ", "LD_LIBRARY_PATH")  # of this process's environment, which has secrets
TRIED: Final = [[{"role": role, "content": "a"} for role in roles] for roles in (("user",), ("system", "user", "assistant", "user"))]
ENDLESS: Final = "its chat template did not come to an end."
SECONDS: Final = 2.0  # of CPU, for one conversation: templates in use take less than a thousandth
STRIKES: Final = 3  # conversations one after another that it did not come to an end over


class Template:
    """``tokens``: the model's special ones, by name; ``samples``: what is made of some conversations. Thread-safe. Raises TextmillError
    "model_broken" where the template does not compile, or does not come to an end."""

    def __init__(self, folder: Path, template: str, tokens: Mapping[str, str]) -> None:
        self._folder = folder
        self._first = {"template": template, "tokens": dict(tokens), "seconds": SECONDS}
        self._lock = threading.Lock()
        self._strikes = 0
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._start()
            self.samples: list[str] = [self._ask(chat) or "" for chat in TRIED]
        except EOFError:
            self._ended_by()
            raise broken(folder, ENDLESS) from None

    def fill(self, messages: Sequence[Mapping[str, str]]) -> str | None:
        """The prompt up to where the assistant begins to speak. None where the template takes no such messages."""
        with self._lock:
            if self._strikes >= STRIKES:
                raise broken(self._folder, ENDLESS)
            for _ in range(2):  # again, where somebody else ended the process
                try:
                    filled: str | None = self._ask(messages)
                except EOFError:
                    if self._ended_by() == signal.SIGPROF:
                        self._strikes += 1
                        return None
                    continue
                self._strikes = 0
                return filled
            return None

    def _start(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 -- a file of ours
            [sys.executable, "-I", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in KEPT if name in os.environ},
        )
        weakref.finalize(self, _end, self._process)
        if not self._ask(self._first):
            raise broken(self._folder, "its chat template is none that Jinja reads.")

    def _ask(self, what: object) -> Any:
        """Raises EOFError where the process has ended."""
        if self._process is None:
            self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(what).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise EOFError from None
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        return json.loads(line)

    def _ended_by(self) -> int:
        """The signal that ended the process, which is another one from now on."""
        process, self._process = self._process, None
        assert process is not None
        process.wait()
        _end(process)
        return -process.returncode


def _end(process: "subprocess.Popen[bytes]") -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    process.kill()
    process.wait()
