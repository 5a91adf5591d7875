"""How an encoder is run on a GPU, decided without one."""

from pathlib import Path

import pytest

from tests.workers.families import make
from workers.engines.calibration.encoder_candidates import EncoderCandidates
from workers.engines.contract.plan import GPU_ENCODER, NumberFormat, plan
from workers.engines.loading import on_gpu
from workers.models.folders import local_model

GPU = plan("encoder", device="cuda", cpu_flags=frozenset(), cores=8)


def candidates(family: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> EncoderCandidates:
    monkeypatch.setenv("TEXTMILL_MODEL_FOLDERS", str(root))
    make(family, root / family, classifier=False)
    card = local_model(f"local:{family}")
    assert card is not None
    return EncoderCandidates(card, root / family, frozenset(), device="cuda")


@pytest.mark.parametrize(("asked", "runs"), [(None, "bfloat16"), ("bfloat16", "bfloat16"), ("float32", "float32"), ("int8", "float32")])
def test_a_packed_family_runs_in_the_format_asked_for_else_in_bf16(
    asked: NumberFormat | None, runs: NumberFormat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate, made = on_gpu(candidates("bert", tmp_path, monkeypatch), GPU, asked)
    assert (candidate.engine, candidate.format) == (made.engine, made.format) == ("torch", runs)
    assert made.policy == GPU_ENCODER


def test_another_family_is_planned_as_what_runs_it_padded_and_in_fp32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    candidate, made = on_gpu(candidates("mpnet", tmp_path, monkeypatch), GPU, "bfloat16")
    assert (candidate.engine, candidate.format) == (made.engine, made.format) == ("transformers", "float32")
    assert made.policy.padded
    assert made.policy.budget_tokens == GPU_ENCODER.budget_tokens
