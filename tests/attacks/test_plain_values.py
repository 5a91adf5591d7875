"""One value that stands in the clear was altered: what has it says so, its neighbours come, no list is an error or ends too early."""

import pytest

from tests.attacks.scene import CODE, Scene, hex_of, told


def ids(scene: Scene, path: str) -> list[str]:
    """Through all pages of one entry each, as a client goes that ends where nothing is said to follow, or nothing came."""
    seen: list[str] = []
    for _ in range(200):
        page = scene.http.get(path, params={"limit": 1, **({"after": seen[-1]} if seen else {})})
        assert page.status_code == 200, page.text
        seen += [str(one["id"]) for one in page.json()["data"]]
        if not page.json()["has_more"] or not page.json()["data"]:
            return seen
    raise AssertionError("the list does not end")


@pytest.mark.parametrize("name", ["''", "'\\\\x00'"])
def test_a_blanked_file_name_hides_nothing_behind_it(scene: Scene, name: str) -> None:
    whole = ids(scene, "/v1/files")
    scene.as_superuser(f"UPDATE files SET name_sealed = {name} WHERE file_id = '{hex_of(scene.files[1])}'")
    assert ids(scene, "/v1/files") == whole
    names = {one["id"]: one["filename"] for one in scene.listed("/v1/files?purpose=batch")}
    assert names == {scene.files[0]: "a.jsonl", scene.files[1]: CODE}
    assert told(scene.http.get(f"/v1/files/{scene.files[1]}").json())
    jobs = {one["id"]: one for one in scene.listed("/v1/batches")}
    assert [told(jobs[id]) for id in scene.batches] == [False, True], "its job shows the name, too"
    assert ("file", scene.files[1]) in {one[:2] for one in scene.on_record()}


@pytest.mark.parametrize(
    ("column", "path"),
    [
        ("jobs.created_at", "/v1/batches"),
        ("jobs.deadline", "/v1/batches"),
        ("jobs.created_at", "/v1/files?purpose=batch_output"),
        ("files.created_at", "/v1/files?purpose=batch"),
        ("files.expires_at", "/v1/files?purpose=batch"),
        ("audit_events.at", "/v1/audit/events?action=file.create"),
        ("api_keys.created_at", "/v1/keys"),
    ],
)
def test_a_moment_that_python_cannot_say_costs_its_own_place(scene: Scene, column: str, path: str) -> None:
    table, _, name = column.partition(".")
    key = {"jobs": "job_id", "files": "file_id", "audit_events": "event_id", "api_keys": "key_id"}[table]
    of = "action = 'file.create'" if table == "audit_events" else "true"
    if table == "audit_events":
        scene.as_superuser("ALTER TABLE audit_events DISABLE TRIGGER ALL")
    if table == "api_keys":
        scene.http.post("/v1/keys", json={"name": "other", "scopes": ["read"]}).raise_for_status()
    whole = scene.listed(path)
    for moment in ("infinity", "-infinity", "4713-01-01 BC", "12026-01-01"):
        one = f"SELECT {key} FROM {table} WHERE {of} ORDER BY {key} LIMIT 1"
        scene.as_superuser(f"UPDATE {table} SET {name} = '{moment}' WHERE {key} = ({one})")
        expired = name == "expires_at" and moment in ("-infinity", "4713-01-01 BC")
        listed = scene.listed(path)
        assert (len(listed), sum(map(told, listed))) == ((len(whole) - 1, 0) if expired else (len(whole), 1)), moment
        if "?" not in path and path != "/v1/keys":
            assert len(ids(scene, path)) == len(whole), moment


def test_errors_and_metrics_of_a_job_that_were_altered_cost_that_job_alone(scene: Scene) -> None:
    errors = ['[{"x": 1}]', '"x"', "[1]", '[{"code": 1}]', '[{"code": "rare_label", "line": "x"}]', '{"code": "a"}']
    metrics = ['{"truncated_rows": "x"}', "[]", "1", '{"truncated_rows": 1e400}', '{"truncated_rows": null}']
    for column, value in (*(("errors", each) for each in errors), *(("metrics", each) for each in metrics)):
        scene.as_superuser(f"UPDATE jobs SET {column} = '{value}' WHERE job_id = '{hex_of(scene.batches[0])}'")
        jobs = {one["id"]: one for one in scene.listed("/v1/batches")}
        assert [told(jobs[id]) for id in scene.batches] == [True, False], value
        scene.as_superuser(f"UPDATE jobs SET {column} = NULL WHERE job_id = '{hex_of(scene.batches[0])}'")
    assert [told(one) for one in scene.listed("/v1/batches")] == [False, False]
    assert ("job", scene.batches[0]) in {one[:2] for one in scene.on_record()}


def test_a_code_that_was_altered_costs_neither_the_list_nor_the_file_of_failures(scene: Scene) -> None:
    batch = hex_of(scene.batches[0])
    scene.as_superuser(f"UPDATE jobs SET failed_count = 1 WHERE job_id = '{batch}'")
    for code in (
        "wrong_cell_count::a|b",
        "wrong_cell_count::|",
        "wrong_cell_count",
        "wrong_cell_count::١|٢",
        "no such code",
        "a_newer_code",
        "",
        "::",
    ):
        scene.as_superuser(f"UPDATE results SET outcome = 2, code = '{code}', payload_sealed = NULL WHERE job_id = '{batch}' AND idx = 0")
        assert f"file-e{batch}" in ids(scene, "/v1/files"), code
        (line,) = scene.lines(f"file-e{batch}")
        assert line["custom_id"] == "row-0"
        assert told(line) or code.startswith(("wrong_cell_count", "a_newer_code")), code
