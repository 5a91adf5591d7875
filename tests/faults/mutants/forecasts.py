"""Guards of what is promised of a job's end, and of what it may spend."""

from typing import Final

from tests.faults.mutants.mutant import Mutant

_FORECAST: Final = "db/jobs/forecast.py"
_FORECAST_TEST: Final = "tests/unit/db/jobs/test_forecast.py::"
_ROUTE_TEST: Final = "tests/api/routes/test_forecasts.py::"
_BUDGETS_TEST: Final = "tests/db/queue/test_budgets.py::"
_LIFE_TEST: Final = "tests/workers/shard/test_life.py::"
_IN_FLIGHT_TEST: Final = "tests/unit/workers/test_stages.py::"

MUTANTS: Final = (
    Mutant(
        "spent-is-put-off",
        "a shard whose job has spent its budget is no crash, and is not computed again and again",
        "workers/shard/life.py",
        (("away_seconds=SPENT_SECONDS", "away_seconds=0.0"),),
        (f"{_LIFE_TEST}test_a_shard_whose_job_has_spent_its_budget_is_given_back_and_not_offered_again_at_once",),
    ),
    Mutant(
        "late-is-refused",
        "a job that would be late is not made where that was asked",
        "db/jobs/creating.py",
        (("if new.refuse_late and is_late(promise, window):", "if False:"),),
        (f"{_ROUTE_TEST}test_a_window_that_cannot_be_met_is_warned_of_and_refused_where_that_is_asked_with_the_earliest_time",),
    ),
    Mutant(
        "nobody-else-shows",
        "of another tenant's job its id and its turn are shown to nobody",
        "db/migrations/sql/0035_forecasts.sql",
        (("CASE WHEN own.mine THEN j.job_id END AS job_id", "j.job_id"),),
        ("tests/db/operators/test_backlog.py::test_of_another_tenants_job_nothing_shows_but_what_it_asks_of_the_workers",),
    ),
    Mutant(
        "others-have-their-turn",
        "while a tenant has work left, each other has as much done",
        _FORECAST,
        (("heapq.heappush(turns, (held + 1, tenant))", "heapq.heappush(turns, (-1, tenant))"),),
        (f"{_FORECAST_TEST}test_another_tenant_has_as_much_done_meanwhile_and_no_more_than_it_has",),
    ),
    Mutant(
        "speed-needs-time",
        "what took a moment tells no speed",
        _FORECAST,
        (("self.worker_seconds >= LEAST_SECONDS and ", ""),),
        (f"{_FORECAST_TEST}test_what_was_not_measured_is_not_forecast",),
    ),
    Mutant(
        "no-write-past-a-budget",
        "no result is stored once its job's budget of tokens is used up",
        "db/queue/results.py",
        (("if row.max_output_tokens is not None:", "if False:"),),
        (f"{_BUDGETS_TEST}test_what_is_stored_passes_the_budget_by_no_more_than_the_write_that_reached_it",),
    ),
    Mutant(
        "one-write-at-a-time",
        "writes of a job with a budget of tokens see each other",
        "db/queue/results.py",
        (('    conn.execute(_ONE_WRITE_AT_A_TIME, {"job": str(lease.job_id)})\n', ""),),
        (f"{_BUDGETS_TEST}test_of_writes_at_the_same_time_one_passes_the_budget_and_the_others_are_refused",),
    ),
    Mutant(
        "spent-ends",
        "a job whose budget is used up ends",
        "db/lifecycle.py",
        (
            (
                "return JobState.EXPIRED if deadline_passed or over_budget else state",
                "return JobState.EXPIRED if deadline_passed else state",
            ),
        ),
        ("tests/unit/db/test_lifecycle.py::test_a_budget_that_is_used_up_ends_what_is_in_work_and_nothing_else",),
    ),
    Mutant(
        "budget-by-run",
        "another run has its budget anew",
        "db/queue/endings.py",
        ((" - j.spent_before)", ")"),),
        (f"{_BUDGETS_TEST}test_another_run_has_the_budget_anew",),
    ),
    Mutant(
        "shared-evenly",
        "what shards in flight together take of a worker sums to its time",
        "workers/shard/in_flight.py",
        (("self._each += (now - self._each_to) / self._shards", "self._each += now - self._each_to"),),
        (f"{_IN_FLIGHT_TEST}test_a_job_with_three_shards_of_four_in_flight_has_three_quarters_of_the_worker",),
    ),
    Mutant(
        "loading-is-no-work",
        "a model that loads is no part of what rows take",
        "workers/shard/in_flight.py",
        (("            self._jobs[job_id].worker_seconds = 0.0\n", ""),),
        (f"{_IN_FLIGHT_TEST}test_what_a_job_waited_for_while_its_model_loaded_is_no_part_of_what_its_rows_take",),
    ),
)
