"""How a job's figures come from what its workers counted."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.cli.commands.jobs import describe
from api.cli.work.figures import figures, stage_rows
from api.performance import Performance, mean_fill, padding_waste, performance, texts
from api.wire import Batch, Extras, RowCounts, Usage
from workers.stages import STAGES, metric_of

METRICS = {
    "tokens": 900.0,
    "padding_tokens": 100.0,
    "budget_tokens": 2_000.0,
    "held_seconds": 9.0,
    "lane_seconds": 18.0,
    "open_seconds": 1.0,
    "tokenise_seconds": 2.0,
    "queue_seconds": 10.0,
    "model_seconds": 16.0,
    "seal_seconds": 0.5,
    "commit_seconds": 0.5,
}


def batch(metrics: dict[str, float] | None, run_seconds: float | None = 10.0) -> Batch:
    return Batch(
        id="batch_1",
        endpoint="/v1/classifications",
        status="completed",
        input_file_id="file-1",
        created_at=0,
        counts=RowCounts(total=100, completed=99, failed=1),
        textmill=Extras(metrics=metrics, run_seconds=run_seconds),
    )


@pytest.mark.parametrize("run_seconds", [None, 0.0, 10.0])
@pytest.mark.parametrize("metrics", [None, {}, dict.fromkeys(METRICS, 0.0)])
def test_a_job_of_no_tokens_and_no_time_has_figures_too(metrics: dict[str, float] | None, run_seconds: float | None) -> None:
    used = performance(batch(metrics, run_seconds))
    assert (used.fill, used.padding_waste, used.device_busy) == (None, None, None)
    assert stage_rows(used) == []
    assert set(Performance(rows=0, run_seconds=None, stages=dict.fromkeys(STAGES, 0.0)).stage_shares.values()) == {0.0}
    assert figures(used) is not None


def test_waste_and_fill_are_shares_of_tokens() -> None:
    assert padding_waste(METRICS) == 0.1
    assert mean_fill(METRICS) == 0.5
    assert padding_waste({}) is None
    assert mean_fill({}) is None


def test_speeds_are_over_the_whole_run() -> None:
    used = performance(batch(METRICS))
    assert (used.rows_per_second, used.tokens_per_second) == (10.0, 90.0)


def test_the_device_is_judged_by_the_time_a_worker_held_the_job_and_the_bare_share_by_the_whole_run() -> None:
    used = performance(batch(METRICS))
    assert used.lanes == 2
    assert used.device_busy == pytest.approx(16 / 18)
    assert used.bare_share == pytest.approx(16 / 20)


def test_several_workers_have_that_much_more_lane_time() -> None:
    both = {name: 2 * value for name, value in METRICS.items()}
    used = performance(batch(both))
    assert used.lanes == 2
    assert used.bare_share == pytest.approx(32 / 36), "two workers of two lanes held it for nine of the ten seconds each"


def test_a_job_that_still_runs_or_met_no_model_has_no_stages() -> None:
    for metrics in (None, {}):
        used = performance(batch(metrics))
        assert used.stages == {}
        assert used.device_busy is None
        assert stage_rows(used) == []


def test_a_batch_of_an_older_server_shows_what_there_is() -> None:
    assert figures(performance(batch({"tokens": 5.0}, run_seconds=None))) == []


@given(st.dictionaries(st.sampled_from([metric_of(stage) for stage in STAGES]), st.floats(0, 1e6)))
def test_the_shares_of_the_stages_sum_to_one(metrics: dict[str, float]) -> None:
    shares = performance(batch(metrics)).stage_shares
    assert not shares or sum(shares.values()) == pytest.approx(1)


def test_a_job_is_shown_with_its_speed_its_device_and_its_stages() -> None:
    told = dict(describe(batch(METRICS), verbose=True))
    assert told["speed"] == "10.0 rows/s, 90 tokens/s over 10.0 s"
    assert told["micro-batches"] == "fill 50.0%, padding waste 10.0%"
    assert str(told["device"]).startswith("88.9% busy")
    assert told["time model"] == "16.00 s, 53.3%"
    assert [name for name in told if name.startswith("time ")] == [f"time {stage}" for stage in STAGES]


def a_generation(**changes: object) -> Batch:
    """Of 100 rows 41 are done, one of them failed: 800 tokens in 40 answers."""
    metrics = {"cached_tokens": 300.0, "prompt_tokens": 400.0, "first_token_bucket_16": 38.0, "first_token_bucket_22": 2.0}
    running = Batch(
        id="batch_1",
        endpoint="/v1/chat/completions",
        status="in_progress",
        input_file_id="file-1",
        created_at=0,
        counts=RowCounts(total=100, completed=40, failed=1),
        usage=Usage(input_tokens=2_000, output_tokens=800),
        textmill=Extras(recent_metrics=metrics, eta_seconds=59 / 0.5, run_seconds=1_000.0),
    )
    return msgspec.structs.replace(running, **changes)


def test_a_running_generation_tells_its_answers_by_what_its_last_shards_counted() -> None:
    told = texts(a_generation())
    assert told is not None
    assert (told.answers, told.tokens, told.mean_tokens, told.cached_share) == (40, 800, 20.0, 0.75)
    assert told.tokens_per_second == pytest.approx(0.5 * 800 / 41)
    assert told.first_token == pytest.approx((0.2, 0.25), rel=0.3)
    assert told.next_token is None
    assert texts(a_generation(textmill=Extras())) is not None  # of one that has just begun


def test_a_generation_that_has_ended_tells_them_by_its_own_sums() -> None:
    extras = Extras(metrics={"cached_tokens": 1_000.0, "next_token_bucket_0": 40.0}, run_seconds=10.0)
    told = texts(a_generation(status="completed", textmill=extras))
    assert told is not None
    assert (told.tokens_per_second, told.cached_share, told.first_token) == (80.0, 0.5, None)
    assert dict(figures(performance(a_generation(status="completed", textmill=extras)))) == {
        "speed": "4.1 rows/s over 10.0 s",
        "answers": "20.0 tokens each, 80 tokens/s",
        "prefix hits": "50.0% of the prompts' tokens, which an earlier one begins with",
        "next token": "within 1 ms in half of the rows, 1 ms in 95 of 100",
    }


def test_a_job_that_writes_no_text_tells_none() -> None:
    assert texts(batch(METRICS)) is None
    assert texts(a_generation(counts=RowCounts(total=9, completed=0, failed=9))) is None
