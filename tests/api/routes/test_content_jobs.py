"""Jobs that check what they write."""

import json
from typing import Any

import pytest

from tests.api.conftest import Served
from tests.api.mill import Mill
from tests.api.routes.test_files import error_of
from workers.engines.fake import expected_text

CHAT = "/v1/chat/completions"


def job(api: Served, mill: Mill, rows: bytes, **fields: Any) -> str:
    """The id of one that has ended."""
    file_id = api.upload(rows, purpose="rows").json()["id"]
    defaults = {"model": "fake-decoder", "max_tokens": 4, **fields.pop("defaults", {})}
    made = api.http().post("/v1/batches", json={"input_file_id": file_id, "endpoint": CHAT, "defaults": defaults, **fields})
    batch_id = str(made.raise_for_status().json()["id"])
    mill.run_all()
    return batch_id


def lines(api: Served, batch_id: str, which: str = "file-o", **parameters: Any) -> list[dict[str, Any]]:
    got = api.http().get(f"/v1/files/{batch_id.replace('batch_', which)}/content", params=parameters).raise_for_status()
    return [json.loads(line) for line in got.text.splitlines()]


def test_a_text_that_passes_is_an_answer_and_one_that_does_not_a_failure_that_names_the_check(api: Served, mill: Mill) -> None:
    word = expected_text("good", 1)
    checks = [{"check": "length", "max": 4}, {"check": "required", "words": [word]}]
    batch_id = job(api, mill, b'{"text":"good"}\n{"text":"bad"}', checks=checks, tries=2, defaults={"temperature": 0.5, "seed": 3})
    [answer] = lines(api, batch_id)
    assert (answer["row"], answer["response"]["body"]["tries"]) == (1, 1)
    [failure] = lines(api, batch_id, "file-e")
    error = failure["response"]["body"]["error"]
    assert (failure["row"], failure["response"]["status_code"], error["code"], error["param"]) == (2, 422, "check_failed", "required")
    assert error["message"].startswith("No answer of 2 tries passed the check `required` (`checks[1]`)")
    assert word not in error["message"]
    usage = api.http().get(f"/v1/batches/{batch_id}").json()["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (len("good") + 2 * len("bad"), 3 * 4)


@pytest.mark.parametrize("path", ["", "/check"])
def test_checks_that_no_text_can_pass_are_refused_before_there_is_a_job(api: Served, path: str) -> None:
    request: dict[str, Any] = {"endpoint": CHAT, "checks": [{"check": "length", "min": 9, "max": 8}]}
    if not path:
        request["input_file_id"] = api.upload(b'{"text":"a"}', purpose="rows").json()["id"]
    assert error_of(api.http().post(f"/v1/batches{path}", json=request))[:2] == (400, "invalid_check")
    request["checks"], request["tries"] = [{"check": "length", "max": 8}], 11
    assert error_of(api.http().post(f"/v1/batches{path}", json=request))[:2] == (400, "invalid_field")
