"""When a job will be done: told when it is made and while it waits, or why that is not known; late where its window cannot be met."""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import text

from db.connect import Store
from db.operators import fleet
from db.operators.backlog import Backlogs
from db.operators.fleet import Beat, Readiness
from db.settings import Role
from tests.api.conftest import Served
from tests.api.mill import Mill
from tests.api.routes.test_batches import create, uploaded
from tests.api.routes.test_files import error_of
from workers.models import registry

Stores = Callable[[Role], Store]


class Work:
    def __init__(self, served: Served, stores: Stores, mill: Mill) -> None:
        self.served, self.stores, self.mill = served, stores, mill
        self.model = registry.default_model("classify").id
        self.file = uploaded(served)

    def measured(self, worker_seconds: float) -> None:
        """A job over this file took so long."""
        self.new()
        self.mill.run_all()
        with self.stores(Role.DISPATCHER).transaction() as conn:
            took = "UPDATE jobs SET metrics = metrics || jsonb_build_object('worker_seconds', CAST(:took AS float8))"
            conn.execute(text(took), {"took": worker_seconds})
        self.served.app.state.front.backlogs = Backlogs()

    def worker(self, state: Any = "running", **readiness: object) -> None:
        fleet.register(self.stores(Role.WORKER), "host:1", device="cpu", threads=4, version="1")
        fleet.beat(self.stores(Role.WORKER), "host:1", Beat(state, 0.0, 0, 0, 0, Readiness(**readiness)))  # type: ignore[arg-type]
        self.served.app.state.front.backlogs = Backlogs()

    def new(self, **changes: object) -> dict[str, Any]:
        made: dict[str, Any] = create(self.served, self.file, **changes).raise_for_status().json()
        return made

    def shown(self, made: dict[str, Any]) -> dict[str, Any]:
        found = self.served.http().get(f"/v1/batches/{made['id']}").raise_for_status().json()["textmill"]
        assert isinstance(found, dict)
        return found


@pytest.fixture
def work(api: Served, stores: Stores, mill: Mill) -> Work:
    return Work(api, stores, mill)


def test_a_job_says_when_it_is_made_when_it_will_be_done_and_while_it_waits(work: Work) -> None:
    work.measured(40.0)
    work.worker(models=[work.model])
    began = time.time()
    made = work.new()
    told = made["textmill"]
    assert told["unforeseen"] is None
    assert told["expected_at"] == told["promised_at"] == pytest.approx(began + 40, abs=5)
    assert told["warnings"] == []
    shown = work.shown(made)
    assert shown["expected_at"] == pytest.approx(time.time() + 40, abs=5)
    assert shown["promised_at"] == told["promised_at"]
    listed = work.served.http().get("/v1/batches").json()["data"][0]["textmill"]
    assert (listed["expected_at"], listed["promised_at"]) == (None, told["promised_at"]), "lists do not ask"


def test_what_the_same_tenant_handed_in_before_is_waited_for(work: Work) -> None:
    """Jobs of one shard each run beside each other: a worker holds four."""
    work.measured(40.0)
    work.worker(models=[work.model])
    work.new()
    second = work.new(priority=-1)
    assert second["textmill"]["expected_at"] == pytest.approx(time.time() + 80, abs=6)
    third = work.new(priority=5)
    assert third["textmill"]["expected_at"] == pytest.approx(time.time() + 120, abs=6)


@pytest.mark.parametrize(
    ("state", "models", "code"),
    [(None, None, "no_worker"), ("drained", None, "workers_drained"), ("running", ["another"], "no_worker_has_model")],
)
def test_without_a_worker_for_it_nothing_is_promised_and_why_is_said(work: Work, state: str | None, models: object, code: str) -> None:
    work.measured(40.0)
    if state is not None:
        work.worker(state, models=models)
    made = work.new(if_late="refuse")
    for told in (made["textmill"], work.shown(made)):
        assert (told["expected_at"], told["promised_at"]) == (None, None)
        assert told["unforeseen"]["code"] == code


def test_where_nothing_like_it_ran_nothing_is_promised(work: Work) -> None:
    work.worker(models=[work.model])
    made = work.new(if_late="refuse")
    assert (made["textmill"]["expected_at"], made["textmill"]["unforeseen"]["code"]) == (None, "unmeasured")


def test_what_is_paused_or_has_ended_is_not_expected(work: Work) -> None:
    work.measured(40.0)
    work.worker(models=[work.model])
    made = work.new()
    work.served.http().post(f"/v1/batches/{made['id']}/pause").raise_for_status()
    assert work.shown(made)["unforeseen"]["code"] == "paused"
    work.served.http().post(f"/v1/batches/{made['id']}/cancel").raise_for_status()
    work.mill.settle()
    told = work.shown(made)
    assert (told["expected_at"], told["unforeseen"]) == (None, None)


def test_a_window_that_cannot_be_met_is_warned_of_and_refused_where_that_is_asked_with_the_earliest_time(work: Work) -> None:
    work.measured(600.0)
    work.worker(models=[work.model])
    late = create(work.served, work.file, completion_window="2m", if_late="refuse")
    assert late.status_code == 409, "a conflict with the queue as it is"
    assert error_of(late)[1] == "would_be_late"
    earliest = datetime.fromisoformat(late.json()["error"]["message"].split()[6])
    assert earliest.timestamp() == pytest.approx(time.time() + 600, abs=10)
    made = work.new(completion_window="2m")
    assert [warning["code"] for warning in made["textmill"]["warnings"]] == ["late"]
    assert work.shown(made)["warnings"][0]["rows"] == made["request_counts"]["total"]
    assert work.new(completion_window="1h", if_late="refuse")["textmill"]["warnings"] == []


@pytest.mark.parametrize("word", ["warn", "", None, 5, ["refuse"]])
def test_if_late_has_two_words_and_no_other(work: Work, word: object) -> None:
    refused = create(work.served, work.file, if_late=word)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "if_late"
    check = {"endpoint": "/v1/classifications", "if_late": word}
    assert work.served.http().post("/v1/batches/check", json=check).status_code == 400


def check(work: Work, **changes: object) -> dict[str, Any]:
    asked = {"endpoint": "/v1/classifications", "defaults": {"labels": ["a", "b"]}, **changes}
    told: dict[str, Any] = work.served.http().post("/v1/batches/check", json=asked).json()
    return told


def test_a_check_with_the_files_size_says_what_the_job_would_take_and_makes_none(work: Work) -> None:
    work.measured(40.0)
    work.worker(models=[work.model])
    file = work.served.http().get(f"/v1/files/{work.file}").json()
    size = {"rows": 2 * file["textmill"]["rows"], "characters": 10_000}
    before = work.served.http().get("/v1/batches").json()["data"]
    told = check(work, size=size)["forecast"]
    assert told["rows"] == size["rows"]
    assert told["worker_seconds"] > 0
    assert told["expected_at"] >= time.time()
    assert (told["price"], told["currency"], told["unforeseen"], told["late"]) == (None, None, None, False)
    assert work.served.http().get("/v1/batches").json()["data"] == before
    assert "forecast" not in check(work), "without a size nothing is forecast"


def test_a_check_of_a_job_that_would_be_late_says_so_or_refuses_it(work: Work) -> None:
    work.measured(40.0)
    work.worker(models=[work.model])
    large = {"rows": 2_000_000_000, "characters": 10**12}
    assert check(work, size=large)["forecast"]["late"]
    assert check(work, size=large, if_late="refuse")["error"]["code"] == "would_be_late"


def test_prices_are_told_where_the_operator_set_them(work: Work, serve: Callable[..., Served]) -> None:
    work.measured(40.0)
    work.served = serve(prices="*=1/2", currency="EUR")
    work.worker(models=[work.model])
    told = check(work, size={"rows": 10, "characters": 10**9})["forecast"]
    assert told["price"] == pytest.approx(told["input_tokens"] / 1e6, abs=1e-3)
    assert told["currency"] == "EUR"


def test_a_size_is_whole_numbers_that_fit(work: Work) -> None:
    for size in (
        {},
        {"rows": 0, "characters": 1},
        {"rows": 2**31, "characters": 1},
        {"rows": 1, "characters": -1},
        {"rows": 1, "characters": 2**63},
    ):
        assert check(work, size=size)["error"]["code"] in {"invalid_field", "missing_field"}, size
    nothing_known = check(work, size={"rows": 1, "characters": 5})["forecast"]
    assert (nothing_known["worker_seconds"], nothing_known["unforeseen"]["code"]) == (None, "no_worker")
