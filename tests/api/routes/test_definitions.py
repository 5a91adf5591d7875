"""``/v1/rules`` and ``/v1/templates``."""

import pytest

from tests.api.conftest import Served
from tests.api.routes.test_files import error_of

SOURCES = {
    "/v1/rules": ("rules: [{when: {contains: a}, label: x}]", "rules: [{when: {contains: a}, label: y}]", "rules: []"),
    "/v1/templates": ("text: a", "text: b", "text: []"),
}


@pytest.mark.parametrize("path", SOURCES)
def test_a_definition_is_kept_as_it_was_written_in_versions(api: Served, path: str) -> None:
    http, (one, two, _) = api.http(), SOURCES[path]
    assert http.put(f"{path}/desk", json={"source": one}).json()["version"] == 1
    assert http.put(f"{path}/desk", json={"source": one}).json()["version"] == 1
    made = http.put(f"{path}/desk", json={"source": two}).json()
    assert (made["name"], made["version"], made["source"]) == ("desk", 2, two)
    assert [found["source"] for found in http.get(path).json()["data"]] == [two]
    assert http.get(f"{path}/desk@1").json()["source"] == one
    assert [version["id"] for version in http.get(f"{path}/desk").json()["versions"]] == ["desk@2", "desk@1"]
    assert http.delete(f"{path}/desk@1").status_code == 200
    assert error_of(http.get(f"{path}/desk@1"))[0] == 404
    assert http.delete(f"{path}/desk").status_code == 200
    assert error_of(http.get(f"{path}/desk"))[:2] == (404, "not_found")


@pytest.mark.parametrize("path", SOURCES)
def test_what_cannot_be_read_is_refused_by_line_and_not_kept(api: Served, path: str) -> None:
    http = api.http()
    refused = http.put(f"{path}/desk", json={"source": SOURCES[path][2]})
    assert error_of(refused)[:2] == (400, "invalid_definition")
    assert refused.json()["error"]["message"].startswith("Line 1: ")
    assert http.get(path).json()["data"] == []


def test_a_name_does_not_begin_with_what_stands_before_one(api: Served) -> None:
    for path, (source, *_) in SOURCES.items():
        for name in ("rules:a", "template:a", "head:a", "a@2"):
            assert error_of(api.http().put(f"{path}/{name}", json={"source": source}))[:2] == (400, "invalid_name")


def test_rules_and_templates_of_one_name_are_two(api: Served) -> None:
    for path, (source, *_) in SOURCES.items():
        api.http().put(f"{path}/desk", json={"source": source}).raise_for_status()
    assert [api.http().get(f"{path}/desk").json()["object"] for path in SOURCES] == ["rules", "template"]
