"""The Tab key: in bash itself, and what is offered of a server's names."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["run", "cl"], ["classify"]),
        (["docs", "ope"], ["operations"]),
        (["label", "x.csv", "--on-long", "ch"], ["chunk"]),
        (["label", "x.csv", "--on-long", "=", "ch"], ["chunk"]),
        (["label", "x.csv", "--pool", ""], ["mean", "max"]),
        (["label", "x.csv", "--format", "pa"], ["parquet"]),
        (["jobs", "show", ""], []),  # nobody is there to ask
        (["label", "x.csv", "--head", ""], []),
    ],
)
def test_in_bash_the_tab_key_offers_what_may_stand_there(words: list[str], offered: list[str], tmp_path: Path) -> None:
    found, said = tab(["textmill", *words], {"TEXTMILL_HOME": str(tmp_path)})
    assert found == offered
    assert said == ""


def tab(words: list[str], variables: dict[str, str]) -> tuple[list[str], str]:
    """What bash would offer at the end of these words, as it cuts them, and what it would say on the terminal."""
    variables = {**variables, "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    script = subprocess.run(
        ["textmill"], env={**variables, "_TEXTMILL_COMPLETE": "source_bash"}, capture_output=True, text=True, check=True
    ).stdout
    ask = f'COMP_WORDS=("$@"); COMP_CWORD={len(words) - 1}; _textmill_completion textmill; printf \'%s\\n\' "${{COMPREPLY[@]}}"'
    command = ["bash", "--norc", "-c", f"{script}\n{ask}", "bash", *words]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    return done.stdout.split("\n")[:-1] if done.stdout.strip() else [], done.stderr
