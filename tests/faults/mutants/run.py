"""Runs the tests of a mutant in a copy of the tree, and says whether they noticed."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from queue import Queue
from typing import Final

from tests.benchmarks.goals import markdown_table
from tests.faults.mutants.mutant import Mutant

TEST_SECONDS: Final = 60  # a test that a mutant makes hang is one that noticed
RUN_SECONDS: Final = 300
LEFT_OUT: Final = (".venv", ".git", "__pycache__", ".hypothesis", ".mypy_cache", ".ruff_cache", ".pytest_cache", "build", "dist")
PASSED, FAILED = 0, 1  # of pytest; 2 and more: it could not run them


class Verdict(StrEnum):
    FOUND = "found"
    SURVIVED = "survived"
    BROKEN = "broken"  # the tests did not run, or are red without it: says nothing about the guard


@dataclass(frozen=True, slots=True)
class Outcome:
    """``by``: the first test that noticed; or, of a broken one, why."""

    id: str
    guard: str
    file: str
    verdict: Verdict
    by: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Copy:
    """Of the tree; only what is in it is imported by what runs in it."""

    path: Path

    @classmethod
    def of(cls, root: Path, to: Path) -> "Copy":
        shutil.copytree(root, to, ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True)
        return cls(to)

    def pytest(self, tests: Sequence[str], *options: str) -> "subprocess.CompletedProcess[str]":
        options = ("-p", "no:cacheprovider", "-o", f"timeout={TEST_SECONDS}", "-rfE", *options)
        command = [sys.executable, "-m", "pytest", *options, *tests]
        environment = {**os.environ, "PYTHONPATH": str(self.path), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(command, cwd=self.path, env=environment, capture_output=True, text=True, timeout=RUN_SECONDS, check=False)


def run_all(copies: Sequence[Copy], mutants: Sequence[Mutant], *, tell: Callable[[str], object]) -> list[Outcome]:
    """Each mutant in a copy that has no other. The tests as they are come first: one that is red already would find everything."""
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    plain = copies[0].pytest(tests)
    if plain.returncode != PASSED:
        raise SystemExit(f"Without any mutant these tests must pass:\n{plain.stdout[-8000:]}{plain.stderr[-2000:]}")
    tell(f"{len(tests)} tests pass without any mutant")
    free: Queue[Copy] = Queue()
    for copy in copies:
        free.put(copy)

    def run(mutant: Mutant) -> Outcome:
        copy = free.get()
        try:
            outcome = _run(copy, mutant)
        finally:
            free.put(copy)
        tell(f"{outcome.verdict:8} {outcome.id}: {outcome.by} ({outcome.seconds} s)")
        return outcome

    with ThreadPoolExecutor(len(copies)) as pool:
        return list(pool.map(run, mutants))


def _run(copy: Copy, mutant: Mutant) -> Outcome:
    started = time.monotonic()
    original = mutant.apply_to(copy.path)
    try:
        done = copy.pytest(mutant.tests, "-x")
        verdict, by = judge(done.returncode, done.stdout)
    except subprocess.TimeoutExpired:
        verdict, by = Verdict.BROKEN, f"not over in {RUN_SECONDS} s"
    finally:
        (copy.path / mutant.file).write_text(original)
    return Outcome(mutant.id, mutant.guard, mutant.file, verdict, by, round(time.monotonic() - started, 1))


def judge(returncode: int, output: str) -> tuple[Verdict, str]:
    """From pytest's exit code and summary (``-rfE``)."""
    lines = output.splitlines()
    failed = [line.removeprefix("FAILED ").partition(" - ")[0] for line in lines if line.startswith("FAILED ")]
    if returncode == PASSED:
        return Verdict.SURVIVED, "no test"
    if returncode == FAILED and failed:
        return Verdict.FOUND, failed[0]
    errors = [line for line in lines if line.startswith("ERROR ")]
    return Verdict.BROKEN, errors[0][:200] if errors else f"pytest ended with {returncode}"


def markdown(outcomes: Sequence[Outcome]) -> str:
    found = sum(outcome.verdict is Verdict.FOUND for outcome in outcomes)
    rows = [(one.id, one.guard, one.file, str(one.verdict), one.by, f"{one.seconds:.1f}") for one in outcomes]
    table = markdown_table(("mutant", "the guard that is taken out", "file", "verdict", "by", "s"), rows)
    return f"# Mutants\n\n{found} of {len(outcomes)} guards: some test goes red when the guard is taken out.\n\n{table}\n"


def write(path: Path, outcomes: Sequence[Outcome]) -> None:
    path.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=2) + "\n")
    path.with_suffix(".md").write_text(markdown(outcomes))
