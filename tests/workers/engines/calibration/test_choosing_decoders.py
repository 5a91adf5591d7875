"""The calibration of a decoder chooses the fastest way whose next tokens are fp32's, and says why of the others."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from api.cli.commands.calibrate import _tell
from tests.workers.engines.calibration.small_decoders import SmallCandidates, Spoil
from tests.workers.engines.decoders.families import VOCABULARY, model_of, prompt
from tests.workers.engines.decoders.families import loaded as behind_our_slots
from tests.workers.runtimes import Device
from workers.batches.activity import Activity
from workers.batches.policy import Work
from workers.engines import loading
from workers.engines.calibration import choosing_decoders, divergence
from workers.engines.calibration.choosing_decoders import MOST_DIVERGENCE
from workers.engines.calibration.decoder_candidates import DecoderCandidates
from workers.engines.calibration.divergence import Likely
from workers.engines.calibration.findings import Finding, Trial
from workers.engines.calibration.speaking import Speaker, spoken
from workers.engines.calibration.verdicts import plan_of, to_the_end
from workers.engines.contract.plan import plan
from workers.engines.decoders.distributions import logprobs
from workers.machine.cpu import cpu_flags
from workers.models import registry

EXACT: Spoil = lambda _: None  # noqa: E731
A_LITTLE_OFF: Spoil = lambda weight: weight.mul_(1.0001)  # noqa: E731
FAR_OFF: Spoil = lambda weight: weight.mul_(0.5)  # noqa: E731 - the likeliest token stays the likeliest
NO_NUMBERS: Spoil = lambda weight: weight.fill_(float("nan"))  # noqa: E731


def fails(_weight: torch.Tensor) -> None:
    raise RuntimeError("no such instruction")


def quick(candidates: SmallCandidates, activity: Activity | None = None, **asked: Any) -> Finding:
    slices = choosing_decoders.calibration(
        candidates,  # type: ignore[arg-type]
        activity or Activity(),
        model="small",
        weights="w",
        cores=2,
        trial_seconds=0.01,
        tokens=120,
        **asked,
    )
    return to_the_end(slices)


def verdicts(finding: Finding, number_format: str) -> set[str]:
    return {trial.verdict for trial in finding.trials if trial.format == number_format}


def test_every_way_is_tried_and_one_is_chosen_with_a_reason_for_every_other() -> None:
    candidates = SmallCandidates(bfloat16=A_LITTLE_OFF)
    finding = quick(candidates)
    ways = {(one.format, one.lanes, one.threads, one.slots) for one in finding.trials}
    for number_format in ("float32", "bfloat16"):
        assert {(number_format, 2, 1, 32), (number_format, 1, 2, 32)} < ways
        assert sum(way[0] == number_format and way[3] == 16 for way in ways) == 1
    assert (finding.kind, finding.texts, [one.verdict for one in finding.trials].count("chosen")) == ("decoder", 120, 1)
    assert finding.trials[0] == finding.chosen
    assert all(one.reason and one.agreement == 1.0 and 0 <= (one.difference or 0.0) < MOST_DIVERGENCE for one in finding.trials)
    made, candidate = plan_of(finding, candidates)
    chosen = finding.chosen
    assert (made.format, made.lanes, made.threads, made.policy.max_rows) == (chosen.format, chosen.lanes, chosen.threads, chosen.slots)
    assert candidate.format == chosen.format


def test_of_all_formats_one_is_in_memory_at_a_time() -> None:
    candidates = SmallCandidates(bfloat16=EXACT, int8=EXACT)
    quick(candidates)
    assert candidates.most == 1


@pytest.mark.parametrize(("spoil", "told"), [(FAR_OFF, "nats off"), (NO_NUMBERS, "nats off")])
def test_what_is_far_from_fp32_is_out_however_fast(spoil: Spoil, told: str) -> None:
    finding = quick(SmallCandidates(bfloat16=spoil))
    assert verdicts(finding, "bfloat16") == {"disagrees"}
    assert all(told in one.reason for one in finding.trials if one.format == "bfloat16")
    assert finding.chosen.format == "float32"


def test_other_likeliest_tokens_are_out_however_near_the_distributions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing_decoders, "MOST_DIVERGENCE", 1e9)
    finding = quick(SmallCandidates(bfloat16=lambda weight: weight.neg_()))
    assert verdicts(finding, "bfloat16") == {"disagrees"}
    assert "of the tokens as in fp32" in next(one.reason for one in finding.trials if one.format == "bfloat16")


def test_what_disagrees_is_timed_once_so_that_people_see_what_exactness_costs() -> None:
    off = [one for one in quick(SmallCandidates(bfloat16=FAR_OFF)).trials if one.format == "bfloat16"]
    assert [(one.lanes, bool(one.tokens_per_second)) for one in off] == [(2, True)]


@pytest.mark.parametrize("refused", [None, "no such hardware"])
def test_a_format_that_fails_or_is_refused_is_one_way_fewer(refused: str | None) -> None:
    finding = quick(SmallCandidates(bfloat16=fails, refused=refused))
    assert verdicts(finding, "bfloat16") == {"not here"}
    assert finding.chosen.format == "float32"


def test_a_format_that_was_asked_for_is_taken_even_if_it_disagrees() -> None:
    chosen = quick(SmallCandidates(bfloat16=FAR_OFF), number_format="bfloat16").chosen
    assert chosen.format == "bfloat16"
    assert chosen.reason.startswith("asked for, though ")
    assert quick(SmallCandidates(bfloat16=fails), number_format="bfloat16").chosen.format == "float32", "nothing of it runs here"


def test_the_fewest_rows_under_way_win_among_those_that_are_as_fast() -> None:
    def trial(slots: int, rate: float) -> Trial:
        return Trial("torch", "float32", "slower", "", tokens_per_second=rate, lanes=2, threads=1, slots=slots)

    leanest = choosing_decoders._leanest_of_the_fastest
    assert leanest([trial(32, 100.0), trial(16, 91.0)]).slots == 16
    assert leanest([trial(32, 100.0), trial(16, 89.0)]).slots == 32


def test_rows_that_run_beside_a_trial_are_noticed() -> None:
    activity = Activity()
    activity.enter(Work.BULK)
    assert quick(SmallCandidates(), activity).disturbed


def test_somebody_who_comes_in_a_slice_makes_it_a_step_long(monkeypatch: pytest.MonkeyPatch) -> None:
    activity, ran = Activity(), list[int]()
    honest = Speaker.speak

    def speak(self: Speaker, enough: Any) -> None:
        def look(one: Speaker) -> bool:
            ran.append(one.steps)
            return bool(enough(one))

        activity.enter(Work.INTERACTIVE)
        honest(self, look)

    monkeypatch.setattr(Speaker, "speak", speak)
    engine = SmallCandidates().reference.load(1, 1).sized(threads=1, rows=4)
    next(spoken(engine, [prompt(1, 5)], 1, 600.0, 1, activity))
    assert ran == [1]


@pytest.mark.parametrize("is_broken_off", [True, False])
def test_the_rows_of_a_trial_leave_nothing_in_the_slots_also_where_it_is_broken_off(is_broken_off: bool) -> None:
    made = []
    engine = SmallCandidates().reference.load(1, 1).sized(threads=1, rows=4)
    engine._loaded = replace(engine._loaded, end_ids=[])
    fresh = engine.slots
    engine.slots = lambda: made.append(fresh()) or made[-1]
    trial = spoken(engine, [prompt(1, 5)], 2, 0.01, 2, Activity())
    if is_broken_off:
        next(trial)
        assert made[0].room().rows == 0, "within its first steps no row ends"
        trial.close()
    else:
        assert all(one.tokens_per_second > 0 for one in to_the_end(trial))
    assert [one.room().rows for one in made] == [4, 4]


# What is held against what.


def test_the_divergence_is_that_of_kullback_and_leibler() -> None:
    torch.manual_seed(1)
    truth, other = (torch.log_softmax(torch.randn(5, 40), dim=1) for _ in range(2))
    found = Likely.of(truth).divergence(other)
    assert torch.allclose(found, (truth.exp() * (truth - other)).sum(dim=1), atol=1e-5)
    assert torch.allclose(Likely.of(truth).divergence(truth), torch.zeros(5), atol=1e-6)
    assert Likely.of(truth).agrees(other).tolist() == (truth.argmax(dim=1) == other.argmax(dim=1)).tolist()


def test_what_moves_to_tokens_that_are_not_told_apart_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(divergence, "LIKELIEST", 2)
    truth, other = (torch.tensor([row]).log() for row in ([0.6, 0.2, 0.1, 0.1], [0.3, 0.1, 0.3, 0.3]))
    expected = 0.6 * torch.tensor(0.6 / 0.3).log() + 0.2 * torch.tensor(0.2 / 0.1).log() + 0.2 * torch.tensor(0.2 / 0.6).log()
    assert Likely.of(truth).divergence(other)[0] == pytest.approx(float(expected), abs=1e-6)


def test_what_is_likely_next_is_what_transformers_says_of_each_text_alone() -> None:
    texts = [prompt(3, 7), prompt(4, 30), prompt(5, 1)]
    found = logprobs(behind_our_slots(model_of("gemma3")), texts, exact=True)
    model, places = model_of("gemma3"), iter(found)
    with torch.inference_mode():
        for text in texts:
            for wanted in torch.log_softmax(model(torch.tensor([text.tolist()])).logits[0], dim=-1):
                assert torch.allclose(next(places), wanted, atol=1e-4)
    assert found.shape == (38, VOCABULARY)


# Which ways there are, and when there is something to find out.


def test_without_bf16_in_hardware_it_is_not_tried(tmp_path: Path) -> None:
    here = {one.format for one in DecoderCandidates(registry.get("gemma3-270m"), tmp_path, frozenset({"avx2"})) if one.refused is None}
    assert here == {"float32"}


@pytest.fixture
def gemma(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The card of a model whose files nobody looks at."""
    monkeypatch.setattr(loading, "ensure", lambda _card, _home: tmp_path)
    monkeypatch.setattr("workers.engines.calibration.choice.cores", lambda: 2)
    return registry.get("gemma3-270m")


def test_until_it_is_found_out_a_decoder_runs_in_the_safe_way(gemma: Any, tmp_path: Path) -> None:
    choice = loading.choice_for(gemma, Device(tmp_path, engine="auto", dtype="auto"))
    made, _ = choice.way(None)
    safe = plan("decoder", device="cpu", cpu_flags=cpu_flags(), cores=2)
    assert made == safe
    assert choice.is_open(None)


def test_on_a_cpu_with_one_format_how_its_cores_are_split_is_still_found_out(
    gemma: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert loading.choice_for(gemma, Device(tmp_path, engine="auto", dtype="auto")).is_open(None)
    assert not loading.choice_for(gemma, Device(tmp_path, engine="auto", dtype="auto", lanes=2)).is_open(None)
    assert not loading.choice_for(gemma, Device(tmp_path, engine="auto", dtype="exact")).is_open(None)


def test_what_was_found_is_how_it_runs(gemma: Any, tmp_path: Path) -> None:
    choice = loading.choice_for(gemma, Device(tmp_path, engine="auto", dtype="auto"))
    trial = Trial("torch", "float32", "chosen", "the fastest", 1.0, 0.0, 99.0, 1, 2, slots=16)
    choice.keep(Finding(gemma.id, "w", True, 1, 1.0, (trial,), "decoder"), None)
    made, candidate = choice.way(choice.kept())
    assert (made.format, made.lanes, made.threads, made.policy.max_rows, candidate.format) == ("float32", 1, 2, 16, "float32")


def test_lanes_that_were_asked_for_share_the_cores(gemma: Any, tmp_path: Path) -> None:
    made, _ = loading.choice_for(gemma, Device(tmp_path, engine="auto", dtype="auto", lanes=1)).way(None)
    assert (made.lanes, made.threads) == (1, 2)


@pytest.mark.parametrize("asked", [{"engine": "onnx", "dtype": "auto"}, {"engine": "auto", "dtype": "int8"}])
def test_a_way_that_encoders_alone_have_is_not_asked_of_a_decoder(asked: Any, gemma: Any, tmp_path: Path) -> None:
    assert loading.choice_for(gemma, Device(tmp_path, **asked)).is_open(None)


def test_exact_forces_fp32_for_decoders_too(gemma: Any, tmp_path: Path) -> None:
    made, _ = loading.choice_for(gemma, Device(tmp_path, engine="auto", dtype="exact")).way(None)
    assert made.format == "float32"


def test_the_command_tells_what_a_decoder_was_held_to(capsys: pytest.CaptureFixture[str]) -> None:
    _tell(quick(SmallCandidates(bfloat16=FAR_OFF)), explain=True)
    told = capsys.readouterr()
    assert "slots each" in told.out
    assert "next tokens as fp32" in told.out
    assert "disagrees: " in told.out
    assert "120 tokens of text" in told.out + told.err
