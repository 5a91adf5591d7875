"""`textmill up --detach` and `textmill down`: a stack without a terminal, started until it is ready and stopped until it is gone."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from api.local.home.home import Home
from api.local.home.instance import ProcessName, find_running, read_state, refuse_second
from api.local.home.refusals import StackError, StackExit, folder_refusal
from api.local.processes.children import open_log
from api.local.processes.parts import ROOT
from api.local.up import UpOptions, check_environment, refuse_taken

START_SECONDS: Final = 150.0
PRELOAD_SECONDS: Final = 600.0  # more, where models are loaded first: half a gigabyte is converted once
STOP_SECONDS: Final = 120.0


def start(home: Home, options: UpOptions) -> dict[str, object]:
    """Returns the published state when everything runs. StackError with the reason else."""
    check_environment()
    home.prepare(holds_database=not os.environ.get("TEXTMILL_DATABASE_URL"))
    refuse_second(home)
    refuse_taken({name: port for name, port in (("api", options.port), ("flower", options.flower_port)) if port})
    log_path = home.logs / "up.log"
    try:
        with open_log(log_path) as log:
            since = log.tell()
            child = subprocess.Popen(  # noqa: S603 -- our own program
                [sys.executable, "-P", "-m", "api.cli", "up", *_arguments(options)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=home.path,
                start_new_session=True,
                env={**os.environ, "TEXTMILL_HOME": str(home.path), "PYTHONPATH": _python_path()},
            )
    except OSError as error:
        raise folder_refusal(home.path, error) from None
    patience_seconds = START_SECONDS + (PRELOAD_SECONDS if options.preload else 0.0)
    until = time.monotonic() + patience_seconds
    try:
        while time.monotonic() < until:
            state = read_state(home)
            if state.get("pid") == child.pid and state.get("ready") is True:
                return state
            code = child.poll()
            if code is not None:
                with log_path.open("rb") as log:
                    log.seek(since)
                    said = log.read().decode(errors="replace")
                raise _refused(code, said, log_path)
            time.sleep(0.05)
    except BaseException:
        child.terminate()
        raise
    child.terminate()
    raise StackError(f"The stack was not ready after {patience_seconds:.0f} s (its log: {log_path}).")


def stop(home: Home, *, hurry: bool = False) -> int | None:
    """Drains and ends the stack of this home; returns the pid it had, None where none runs. StackError where it does not end."""
    running = find_running(home)
    if running is None:
        return None
    _signal(running)
    if hurry:
        time.sleep(0.2)  # two signals at once are one
        _signal(running)
    until = time.monotonic() + STOP_SECONDS
    while running.lives:
        if time.monotonic() > until:
            raise StackError(f"The stack (pid {running.pid}) still drains after {STOP_SECONDS:.0f} s; `textmill down --now` cuts it short.")
        time.sleep(0.05)
    return running.pid


def _signal(process: ProcessName) -> None:
    with suppress(ProcessLookupError):
        if process.lives:
            os.kill(process.pid, signal.SIGTERM)


def _arguments(options: UpOptions) -> list[str]:
    flower = ["--no-flower"] if options.flower_port is None else ["--flower-port", str(options.flower_port)]
    workers = [] if options.workers is None else ["--workers", str(options.workers)]
    models = ["--models", ",".join(options.preload)] if options.preload else []
    return ["--port", str(options.port), *flower, *workers, *models]


def _python_path() -> str:
    return os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])


def _refused(code: int, said: str, log: Path) -> StackError:
    lines = [line.removeprefix("textmill: ") for line in said.split("\n") if line.startswith("textmill: ")]
    message = lines[-1] if lines else f"The stack ended while it started (exit code {code}; its log: {log})."
    return StackError(message, StackExit(code) if code in set(StackExit) and code else StackExit.FAILED)
