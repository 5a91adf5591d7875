"""What a job may spend: refused by field where it is no budget, and told with the job."""

import pytest

from tests.api.conftest import Served
from tests.api.mill import Mill
from tests.api.routes.test_batches import create, uploaded
from tests.api.routes.test_files import error_of

NO_BUDGETS: list[object] = [
    {},
    {"max_output_tokens": 0},
    {"max_output_tokens": -5},
    {"max_output_tokens": 2**63},
    {"max_output_tokens": 10**30},
    {"max_output_tokens": 1.5},
    {"max_output_tokens": "100"},
    {"max_hours": 0},
    {"max_hours": -1.0},
    {"max_hours": 721},
    {"max_hours": 1e300},
    {"max_tokens": 5},
    [],
    5,
]


def test_what_is_no_budget_is_refused_by_its_field_before_a_file_is_sent_and_after(api: Served) -> None:
    file_id = uploaded(api)
    for budget in NO_BUDGETS:
        made = create(api, file_id, budget=budget)
        checked = api.http().post("/v1/batches/check", json={"endpoint": "/v1/classifications", "budget": budget})
        for answer in (made, checked):
            status, _, param = error_of(answer)
            assert status == 400, budget
            assert (param or "").startswith("budget"), budget


@pytest.mark.parametrize("budget", [{"max_output_tokens": 1}, {"max_output_tokens": 2**53}, {"max_hours": 0.5, "max_output_tokens": 7}])
def test_a_budget_is_told_with_its_job(api: Served, mill: Mill, budget: dict[str, object]) -> None:
    told = create(api, uploaded(api), budget=budget).raise_for_status().json()["textmill"]
    assert told["budget"] == {"max_output_tokens": None, "max_hours": None, **budget}
    assert told["end_code"] is None
