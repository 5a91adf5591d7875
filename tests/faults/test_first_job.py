"""A real worker on a machine that never ran its model: it answers at once, and goes on in the better way that is found meanwhile, by
itself or by another process of its home."""

import json
import random
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text
from transformers import AutoTokenizer

from db.jobs.results import iter_results
from db.operators.fleet import ready_workers
from tests.faults.house import House
from tests.looking import on_record
from tests.workers.decoder_folders import make as make_decoder
from tests.workers.engines.decoders.test_lora import adapt
from tests.workers.families import WORDS, make
from tests.workers.submitting import row, submit
from workers.engines.calibration import findings
from workers.engines.calibration.findings import Finding, Trial
from workers.engines.loading import choice_for
from workers.models import registry
from workers.settings import WorkerSettings

MODEL = "local:small"
ROWS = 300
PATIENCE_SECONDS = 120  # torch and transformers are imported first, on a machine that may have other things to do


@pytest.fixture
def small_house(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setenv("TEXTMILL_MODEL_FOLDERS", str(tmp_path / "models"))
    make("bert", tmp_path / "models" / "small", classifier=True)
    return house


def test_a_decoders_folder_answers_messages_and_prompts_and_says_which_it_does_not_take(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their weights are random, so what they write means nothing."""
    folders = tmp_path / "models"
    monkeypatch.setenv("TEXTMILL_MODEL_FOLDERS", str(folders))
    adapt(folders / "talks" / "tuned", make_decoder(folders / "talks"), ("q_proj", "v_proj"))
    make_decoder(folders / "mute", template=None)
    house.start_dispatcher()
    house.start_worker()
    texts = [f"the goal {at} <|im_end|>" for at in range(20)]
    asked = {
        ("talks", "/v1/chat/completions"): [{"messages": [{"role": "user", "content": text}], "max_tokens": 9} for text in texts],
        ("talks", "/v1/completions"): [{"prompt": text, "max_tokens": 9} for text in texts],
        ("talks@tuned", "/v1/chat/completions"): [{"messages": [{"role": "user", "content": text}], "max_tokens": 9} for text in texts],
        ("mute", "/v1/completions"): [{"prompt": text, "max_tokens": 9} for text in texts],
        ("mute", "/v1/chat/completions"): [{"messages": [{"role": "user", "content": text}]} for text in texts],
    }
    begun = {
        (name, endpoint): submit(
            *(house.api, house.actor, [row(at, body) for at, body in enumerate(bodies)]),
            task="generate",
            model=f"local:{name}",
            defaults={},
            endpoint=endpoint,
        )
        for (name, endpoint), bodies in asked.items()
    }
    for (name, endpoint), job_id in begun.items():
        ended = partial(lambda one: house.state(one) in ("completed", "failed"), job_id)
        house.wait_for(ended, "the job ends", PATIENCE_SECONDS)
        answers = list(iter_results(house.api, house.actor, job_id, which="output"))
        failures = list(iter_results(house.api, house.actor, job_id, which="errors"))
        if (name, endpoint) == ("mute", "/v1/chat/completions"):
            assert (len(answers), {one.code for one in failures}) == (0, {"no_chat_template"})
            continue
        assert len(answers) + len(failures) == len(texts)
        assert {one.code for one in failures} <= {"empty_generation"}
        assert answers
        read = AutoTokenizer.from_pretrained(folders / name.partition("@")[0])
        for one in answers:
            assert (one.model_version or "").startswith(f"local:{name}@")
            usage = json.loads(one.payload or b"")["usage"]
            ids = read(texts[one.idx].replace("<|im_end|>", "<|im_en_d|>"))["input_ids"]  # as long, and no control token
            extra = usage["prompt_tokens"] - len(ids)
            assert (
                extra == (len(read("<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n")["input_ids"]) if "chat" in endpoint else 0) - 1
            )
            assert 0 < usage["completion_tokens"] <= 9


def submit_some(house: House, seed: int) -> UUID:
    chance = random.Random(seed)
    documents = [" ".join(chance.choices(WORDS, k=chance.randint(3, 12))) for _ in range(ROWS)]
    return submit(house.api, house.actor, [row(at, {"input": one}) for at, one in enumerate(documents)], model=MODEL, defaults={})


def versions(house: House, job_id: UUID) -> list[set[str]]:
    """Of each write, the model versions that its rows name; every row of the job is there once."""
    with on_record(house.api, house.actor.tenant_id) as conn:
        found = conn.execute(
            text("SELECT created_at, array_agg(model_version) AS versions, count(*) AS rows FROM results WHERE job_id = :job GROUP BY 1"),
            {"job": job_id},
        ).all()
    assert sum(each.rows for each in found) == ROWS
    return [set(each.versions) for each in found]


def test_the_first_job_is_answered_in_the_safe_way_and_later_ones_in_what_another_process_found(small_house: House) -> None:
    house = small_house
    settings = WorkerSettings(home=house.settings.home, device="cpu")
    choice = choice_for(registry.get(MODEL), settings)
    found = Trial("onnx", "float32", "chosen", "the fastest", tokens_per_second=1.0, lanes=1, threads=1, budget_tokens=256)
    with ExitStack() as calibrating:
        assert calibrating.enter_context(findings.alone(choice.folder, wait=False))
        house.start_dispatcher()
        worker = house.start_worker()
        first = submit_some(house, 0)
        house.wait_completed(first, PATIENCE_SECONDS)
        assert all(len(each) == 1 and "torch" in min(each) for each in versions(house, first))
        choice.keep(Finding(MODEL, "w", True, 64, 1.0, (found,)), None)
    jobs = [first]
    while "now onnx" not in worker.log:
        jobs.append(submit_some(house, len(jobs)))
        house.wait_completed(jobs[-1], PATIENCE_SECONDS)
    jobs.append(submit_some(house, len(jobs)))
    house.wait_completed(jobs[-1], PATIENCE_SECONDS)
    for job_id in jobs:
        assert all(len(each) == 1 for each in versions(house, job_id)), "no chunk was answered in two ways"
    assert all("onnx" in min(each) for each in versions(house, jobs[-1]))
    assert worker.drain() == 0


def test_what_a_worker_has_and_calibrates_is_told_and_a_drain_does_not_wait_for_its_end(small_house: House) -> None:
    house = small_house
    house.start_dispatcher()
    worker = house.start_worker()
    house.wait_completed(submit_some(house, 0), PATIENCE_SECONDS)
    house.wait_for(lambda: [one.calibrating for _, one in ready_workers(house.api)] == [MODEL], "it says that it calibrates")
    ((state, readiness),) = ready_workers(house.api)
    assert state == "running"
    assert MODEL in (readiness.models or [])
    assert worker.drain() == 0
    assert not list((house.settings.home / "calibration").glob("*.json"))
