"""Calibration chooses the fastest way that agrees with fp32, says why of the others, and keeps what it found."""

import json
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from db.errors import TextmillError
from tests.workers.families import make
from tests.workers.runtimes import Device
from workers.batches.activity import Activity
from workers.batches.policy import Work
from workers.engines import loading
from workers.engines.calibration import choosing, findings, trials
from workers.engines.calibration.attempts import Attempts
from workers.engines.calibration.encoder_candidates import EncoderCandidate, EncoderCandidates
from workers.engines.calibration.findings import Finding
from workers.engines.calibration.held_texts import held_texts
from workers.engines.calibration.slices import MOST_TRIES
from workers.engines.calibration.verdicts import plan_of, to_the_end
from workers.engines.contract.engine import EncoderEngine
from workers.engines.contract.plan import Plan, plan
from workers.engines.encoders.torch_encoder import TorchEncoder
from workers.machine.cpu import cpu_flags
from workers.models import registry
from workers.models.folders import local_model
from workers.models.provision import with_digest
from workers.settings import WorkerSettings

ALL_FLAGS = frozenset({"avx2", "avx512f", "avx512_bf16", "avx512_vnni"})


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TEXTMILL_MODEL_FOLDERS", str(tmp_path / "models"))
    make("bert", tmp_path / "models" / "small", classifier=True)
    return tmp_path


@pytest.fixture
def candidates(root: Path) -> EncoderCandidates:
    return of(root, cpu_flags())


def of(root: Path, flags: frozenset[str]) -> EncoderCandidates:
    folder = root / "models" / "small"
    card = local_model("local:small")
    assert card is not None
    return EncoderCandidates(with_digest(card, folder), folder, flags)


def quick(candidates: EncoderCandidates, activity: Activity | None = None, **asked: Any) -> Finding:
    slices = choosing.calibration(
        candidates, activity or Activity(), model="local:small", weights="w", cores=2, trial_seconds=0.01, texts=70, **asked
    )
    return to_the_end(slices)


def test_one_way_is_chosen_and_every_other_has_a_reason(candidates: EncoderCandidates) -> None:
    finding = quick(candidates)
    assert [trial.verdict for trial in finding.trials].count("chosen") == 1
    assert finding.trials[0] == finding.chosen
    assert all(trial.reason for trial in finding.trials)
    assert len(finding.trials) == len(list(candidates))
    plan, candidate = plan_of(finding, candidates)
    assert (plan.engine, plan.format) == (candidate.engine, candidate.format)
    assert plan.policy.padded == (plan.engine != "torch")


def test_what_disagrees_is_out_however_fast(candidates: EncoderCandidates, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = TorchEncoder.run
    monkeypatch.setattr(
        TorchEncoder,
        "run",
        lambda self, packed: honest(self, packed) if "float32" in self.model_version else honest(self, packed) + np.float32([9, 0, 0]),
    )
    trials = {(trial.engine, trial.format): trial for trial in quick(of_all(candidates)).trials}
    spoilt = trials["torch", "bfloat16"]
    assert spoilt.verdict == "disagrees"
    assert spoilt.tokens_per_second is not None  # it is timed all the same, so that people see what exactness costs


def of_all(candidates: EncoderCandidates) -> EncoderCandidates:
    """With bf16 among the ways, whatever this CPU: slow where it is emulated, but right."""
    candidates._flags = ALL_FLAGS
    return candidates


def test_a_way_that_ended_the_process_twice_is_not_tried_again(candidates: EncoderCandidates, tmp_path: Path) -> None:
    def die(_plan: Plan) -> EncoderEngine:
        os._exit(9)

    def run(deadly: EncoderCandidates) -> Finding:
        return quick(deadly, engine="torch", attempts=Attempts(tmp_path / "tried"))

    class Deadly(EncoderCandidates):
        def __init__(self) -> None:
            pass

        packed = True

        def __iter__(self) -> Iterator[EncoderCandidate]:
            reference, second = list(of_all(candidates))[:2]
            return iter([reference, replace(second, make=die)])

    for _ in range(2):
        child = multiprocessing.get_context("fork").Process(target=run, args=(Deadly(),))
        child.start()
        child.join(60)
        assert child.exitcode == 9
    second = next(trial for trial in run(Deadly()).trials if trial.format == "bfloat16")
    assert (second.verdict, second.reason) == ("not here", "it ended the process that tried it, more than once")


def test_an_output_that_is_not_a_number_disagrees(candidates: EncoderCandidates, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = TorchEncoder.run
    monkeypatch.setattr(
        TorchEncoder,
        "run",
        lambda self, packed: honest(self, packed) * (1 if "float32" in self.model_version else np.nan),
    )
    trials = {(trial.engine, trial.format): trial for trial in quick(of_all(candidates)).trials}
    assert trials["torch", "bfloat16"].verdict == "disagrees"


def test_engines_that_fail_on_this_machine_are_so_many_ways_fewer(candidates: EncoderCandidates, monkeypatch: pytest.MonkeyPatch) -> None:
    from workers.engines.encoders import onnx_encoder, openvino_encoder

    def fail() -> None:
        raise RuntimeError("no such instruction")

    monkeypatch.setattr(openvino_encoder, "import_openvino", fail)
    monkeypatch.setattr(onnx_encoder, "import_onnxruntime", fail)
    finding = quick(candidates)
    assert finding.chosen.engine == "torch"
    assert {trial.verdict for trial in finding.trials if trial.engine != "torch"} == {"not here"}


def test_a_package_that_is_missing_is_one_way_fewer(candidates: EncoderCandidates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.engines.calibration.candidates.find_spec", lambda _: None)
    assert {one.refused for one in candidates if one.engine == "openvino"} == {"the package openvino is not installed"}
    assert {one.refused for one in candidates if one.engine == "onnx"} == {"the package onnxruntime is not installed"}
    assert quick(candidates).chosen.engine == "torch"


def test_the_package_that_builds_the_graph_is_needed_too(candidates: EncoderCandidates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.engines.calibration.candidates.find_spec", lambda name: None if name == "onnx" else object())
    assert {one.refused for one in candidates if one.engine == "onnx"} == {"the package onnx is not installed"}


def test_without_bf16_and_int8_in_hardware_they_are_not_tried(root: Path) -> None:
    assert {one.format for one in of(root, frozenset({"avx2"})) if one.refused is None} == {"float32"}


@pytest.mark.parametrize("value", ["AVX2", "avx2", "default"])
def test_instructions_that_the_environment_forbids_are_not_counted_on(value: str) -> None:
    assert not {flag for flag in cpu_flags({"ONEDNN_MAX_CPU_ISA": value}) if flag.startswith(("avx512", "amx"))}
    assert cpu_flags({}) >= cpu_flags({"ATEN_CPU_CAPABILITY": value})


def test_a_format_that_was_asked_for_is_taken_even_if_it_disagrees(candidates: EncoderCandidates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "MOST_DIFFERENCE", 0.0)
    chosen = quick(of_all(candidates), engine="torch", number_format="bfloat16").chosen
    assert (chosen.engine, chosen.format) == ("torch", "bfloat16")
    assert chosen.reason.startswith("asked for, though ")


def test_held_texts_repeat_and_differ_in_length() -> None:
    assert held_texts(50) == held_texts(80)[:50]
    lengths = {len(text.split()) for text in held_texts(200)}
    assert min(lengths) < 15
    assert max(lengths) > 100


def test_a_finding_is_kept_and_found_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "ROUNDS", 1)
    device = Device(root, engine="auto", dtype="auto")
    card = registry.get("local:small")
    found = loading.find_out(card, device)
    assert loading.find_out(card, device) == found
    loaded = loading.load_encoder(card, device)
    chosen = found.chosen
    assert (loaded.plan.engine, loaded.plan.format, loaded.plan.lanes) == (chosen.engine, chosen.format, chosen.lanes)
    assert loaded.is_open == found.disturbed


def test_a_model_that_was_never_calibrated_here_runs_at_once_in_its_safe_way(root: Path) -> None:
    suggested = plan("encoder", device="cpu", cpu_flags=cpu_flags(), cores=1)
    loaded = loading.load_encoder(registry.get("local:small"), Device(root, engine="auto", dtype="auto"))
    assert loaded.is_open
    assert (loaded.plan.engine, loaded.plan.format) == ("torch", suggested.format)
    assert not (root / "calibration").exists()


def test_where_there_is_one_way_only_nothing_is_left_to_find_out(root: Path) -> None:
    card = registry.get("local:small")
    assert not loading.load_encoder(card, Device(root, engine="torch", dtype="float32")).is_open
    make("modernbert", root / "models" / "other", classifier=True)
    assert not loading.load_encoder(registry.get("local:other"), Device(root, engine="auto", dtype="auto")).is_open


@pytest.mark.parametrize(("disturbed", "tries", "is_open"), [(False, 1, False), (True, 1, True), (True, MOST_TRIES, False)])
def test_a_disturbed_finding_is_used_and_found_anew_some_times(
    root: Path, candidates: EncoderCandidates, disturbed: bool, tries: int, is_open: bool
) -> None:
    card, device = registry.get("local:small"), Device(root, engine="auto", dtype="auto")
    choice = loading.choice_for(card, device)
    found = replace(quick(candidates), disturbed=disturbed)
    before = None if tries == 1 else replace(found, tries=tries - 1)
    assert choice.keep(found, before).tries == tries
    loaded = loading.load_encoder(card, device)
    assert (loaded.plan.engine, loaded.plan.format) == (found.chosen.engine, found.chosen.format)
    assert loaded.is_open == is_open


def test_rows_that_run_beside_every_trial_are_noticed(candidates: EncoderCandidates) -> None:
    activity = Activity()
    assert quick(candidates, activity).texts == 70
    activity.enter(Work.BULK)
    assert quick(candidates, activity).disturbed


def test_somebody_who_comes_in_a_slice_makes_it_short(candidates: EncoderCandidates, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for an interactive row waits for the batch that runs and no longer."""
    engine = candidates.reference.load(1, 1)
    work = engine.tokenize(held_texts(64))[0]
    activity = Activity()
    ran = []
    honest = TorchEncoder.run

    def run(self: TorchEncoder, packed: Any) -> Any:
        ran.append(1)
        if len(ran) == 3:
            activity.enter(Work.INTERACTIVE)
        return honest(self, packed)

    monkeypatch.setattr(TorchEncoder, "run", run)
    slices = trials.run_all(engine, work, 1, activity)
    next(slices)
    assert len(ran) == 3
    ran.clear()
    timing = trials.timed(engine, work, 1, 512, 600.0, activity)
    assert len(ran) == 2, "one to allocate, one that was timed"
    assert timing.disturbed


def test_a_finding_is_bound_to_machine_model_and_what_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def key(weights: str = "w", flags: frozenset[str] = ALL_FLAGS, cores: int = 2, engine: str | None = None) -> str:
        return findings.key_of(weights, flags, cores, engine=engine, number_format=None)

    keys = [key(), key(weights="v"), key(flags=frozenset()), key(cores=4), key(engine="torch")]
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    keys.append(key())
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model": 1}', '{"trials": [{"engine": "torch"}]}'])
def test_a_half_written_finding_is_never_read(content: str, tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text(content)
    assert findings.find(tmp_path, "key") is None


def test_a_folder_that_cannot_be_written_to_still_calibrates_and_says_what_that_costs(
    candidates: EncoderCandidates, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "calibration"
    folder.write_text("in the way")
    with findings.alone(folder):
        findings.keep(folder, "key", quick(candidates))
    assert findings.find(folder, "key") is None
    assert f"cannot be kept in {folder} (" in caplog.text
    assert "give TEXTMILL_CALIBRATION_FOLDER a folder that can be written to" in caplog.text


def test_what_was_found_is_kept_where_it_is_told_to(tmp_path: Path) -> None:
    home = WorkerSettings(home=tmp_path)
    assert home.findings_folder == tmp_path / "calibration"
    assert home.model_copy(update={"calibration_folder": tmp_path / "kept"}).findings_folder == tmp_path / "kept"


def test_two_processes_do_not_calibrate_at_once(tmp_path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with findings.alone(tmp_path):
            order.append("second")

    with findings.alone(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_process_that_does_not_wait_is_told_that_another_calibrates(tmp_path: Path) -> None:
    with findings.alone(tmp_path) as mine, findings.alone(tmp_path, wait=False) as also:
        assert (mine, also) == (True, False)
    with findings.alone(tmp_path, wait=False) as mine:
        assert mine


def test_exact_forces_fp32(root: Path) -> None:
    loaded = loading.load_encoder(registry.get("local:small"), Device(root, engine="torch", dtype="exact"))
    assert loaded.plan.format == "float32"
    assert "float32" in loaded.engine.model_version


def test_an_engine_that_is_not_there_is_refused_with_the_reason(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.engines.calibration.candidates.find_spec", lambda _: None)
    with pytest.raises(TextmillError, match="openvino is not installed") as caught:
        loading.load_encoder(registry.get("local:small"), Device(root, engine="openvino", dtype="auto"))
    assert caught.value.code == "engine_not_available"


def test_lanes_and_budget_that_were_asked_for_win_over_the_finding(root: Path) -> None:
    device = replace(Device(root, engine="torch", dtype="float32"), lanes=3, budget_tokens=99)
    plan = loading.load_encoder(registry.get("local:small"), device).plan
    assert (plan.lanes, plan.policy.budget_tokens) == (3, 99)


def test_openvinos_telemetry_never_enters_the_process() -> None:
    code = (
        "import sys; from workers.engines.encoders.openvino_encoder import import_openvino; import_openvino();"
        "import openvino.opset13; sys.exit(any(module for name, module in sys.modules.items() if name.startswith('openvino_telemetry')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_command_shows_every_way_and_its_reason(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-m", "api.cli", "calibrate", "local:small", "--engine", "torch", "--explain"]
    monkeypatch.setenv("TEXTMILL_HOME", str(root))
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "torch" in told.stdout
    assert "chosen: " in told.stdout
    asked = subprocess.run([*command[:-1], "--json"], capture_output=True, text=True, check=True)
    assert json.loads(asked.stdout)["trials"][0]["verdict"] == "chosen"
