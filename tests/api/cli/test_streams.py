"""What a command does with streams that are not there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(("arguments", "told"), [(["--version"], b""), (["jobs", "list"], b"key")])
def test_a_command_whose_stdout_is_closed_ends_as_with_any_other(arguments: list[str], told: bytes, tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TEXTMILL_API_URL": "http://127.0.0.1:9"}
    command = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "api.cli", *arguments]
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, check=False)
    assert b"Traceback" not in done.stderr
    assert told in done.stderr
