import subprocess
import sys

import pytest

SECRET = "zebra-quartz-canary"


@pytest.mark.parametrize("where", ["main", "thread"])
def test_a_crash_is_told_by_type_and_place_only(where: str) -> None:
    run = "fail()" if where == "main" else "t = threading.Thread(target=fail); t.start(); t.join()"
    script = f"import threading\nfrom workers import logs\nlogs.set_up()\ndef fail():\n    raise ValueError('{SECRET}')\n{run}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert SECRET not in done.stderr
    assert "ended by ValueError" in done.stderr
