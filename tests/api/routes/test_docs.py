"""``/docs``: pages for a browser, without a key, that a browser runs nothing of."""

import pytest

from api.docs.html import HEADERS
from api.docs.pages import TOPICS
from tests.api.conftest import Served
from tests.api.routes.test_files import error_of


@pytest.mark.parametrize("address", ["/docs", *(f"/docs/{topic}" for topic in TOPICS)])
def test_a_page_is_served_without_a_key(api: Served, address: str) -> None:
    response = api.http(key="").get(address)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert {name: response.headers[name] for name in HEADERS} == HEADERS
    assert response.text.startswith("<!doctype html>")
    assert response.headers["x-request-id"]


@pytest.mark.parametrize("address", ["/docs/nothing", "/docs/..%2Fpages%2Fjobs", "/docs/jobs.md"])
def test_what_is_no_page_is_not_found(api: Served, address: str) -> None:
    assert api.http(key="").get(address).status_code == 404


def test_a_page_that_there_is_not_says_where_the_list_is(api: Served) -> None:
    status, code, *_ = error_of(api.http(key="").get("/docs/nothing"))
    assert (status, code) == (404, "page_not_found")


def test_reading_a_page_is_on_no_record(api: Served) -> None:
    before = api.http().get("/v1/audit/events").json()["data"]
    api.http(key="").get("/docs/jobs")
    after = api.http().get("/v1/audit/events").json()["data"]
    assert [event["action"] for event in after if event not in before] == ["audit.list"]
