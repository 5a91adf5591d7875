"""Fields of a batch that are the job's."""

import sys
from typing import Any

import pytest

from api.errors import Refused
from api.requests.content_fields import checked
from workers.tasks import TASKS

SHORT = [{"check": "length", "max": 80}]
WARM = {"temperature": 0.7}

REFUSED: dict[str, tuple[str, dict[str, Any], Any, Any, str]] = {
    "of-another-task": ("classify", {}, SHORT, None, "checks"),
    "tries-of-another-task": ("embed", {}, None, 3, "tries"),
    "tries-without-checks": ("generate", WARM, None, 3, "tries"),
    "greedy-tries": ("generate", {}, SHORT, 2, "tries"),
    "temperature-of-zero": ("generate", {"temperature": 0}, SHORT, 2, "tries"),
    "no-check": ("generate", {}, [{"check": "canary"}], None, "checks[0].check"),
    "pattern-that-is-none": ("generate", {}, [*SHORT, {"check": "regex", "pattern": "(canary"}], None, "checks[1].pattern"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_fields_that_no_job_can_have_are_refused_by_name(case: str) -> None:
    task, defaults, checks, tries, param = REFUSED[case]
    with pytest.raises(Refused) as refused:
        checked(TASKS[task], defaults, checks, tries)
    assert refused.value.param == param
    assert "canary" not in refused.value.message


def test_what_a_worker_needs_of_them_goes_into_the_spec() -> None:
    assert checked(TASKS["generate"], WARM, SHORT, 3) == {"checks": SHORT, "tries": 3}
    assert checked(TASKS["generate"], {}, SHORT, None) == {"checks": SHORT, "tries": 1}


@pytest.mark.parametrize("nothing", [(None, None), ([], None), (None, 1)])
def test_a_job_without_them_has_nothing_of_them_in_its_spec(nothing: tuple[Any, Any]) -> None:
    assert checked(TASKS["classify"], {}, *nothing) == {}


def test_a_check_that_is_not_installed_is_refused_with_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema_rs", None)
    with pytest.raises(Refused) as refused:
        checked(TASKS["generate"], {}, [{"check": "json_schema", "schema": {}}], None)
    assert (refused.value.code, refused.value.param) == ("check_unavailable", "checks[0]")
    assert "textmill[checks]" in refused.value.message
