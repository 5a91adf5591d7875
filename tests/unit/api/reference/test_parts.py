"""What is generated into the pages is what the program says now, the same at any terminal."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from api.cli.tree import build
from api.docs.pages import FOLDER, TOPICS
from api.endpoints import TASKS
from api.reference import bodies, commands, metrics, routes
from api.reference.parts import PARTS, current, wanted
from api.reference.tables import limits, table, type_words
from db.failures import FAILURES
from workers.tasks.generate.task import GenerateBody

PAGES = {topic: (FOLDER / f"{topic}.md").read_text(encoding="utf-8") for topic in TOPICS}


@pytest.mark.parametrize("topic", [topic for topic in TOPICS if wanted(PAGES[topic])])
def test_a_page_is_current(topic: str) -> None:
    assert current(PAGES[topic]) == PAGES[topic], "what is generated has changed: run `make docs`, and commit the pages"


def test_every_generated_part_has_its_place() -> None:
    assert sorted(name for text in PAGES.values() for name in wanted(text)) == sorted(PARTS)
    assert all(text.count("<!-- generated") == text.count("<!-- end -->") == len(wanted(text)) for text in PAGES.values())


def test_a_part_is_put_between_its_markers_and_nowhere_else() -> None:
    text = "before\n<!-- generated failures -->\nbygone\n<!-- end -->\nafter\n"
    made = current(text)
    assert made.startswith("before\n<!-- generated failures -->\n| code |")
    assert made.endswith("|\n<!-- end -->\nafter\n")
    assert "bygone" not in made
    assert current(made) == made
    with pytest.raises(KeyError):
        current("<!-- generated nothing -->\n<!-- end -->")


@pytest.mark.parametrize("columns", ["40", "250"])
def test_the_help_of_commands_is_the_same_at_any_terminal(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("_TYPER_FORCE_DISABLE_TERMINAL", "0")
    assert commands.part() in PAGES["commands"]
    assert "\x1b" not in commands.part()


def test_every_command_is_told_of_with_a_sentence() -> None:
    for path, command in commands.leaves(get_command(build()), "textmill"):
        assert f"### `{path}" in PAGES["commands"]
        assert command.help, path


def test_every_option_says_what_it_is_for() -> None:
    silent = [
        (path, parameter.name)
        for path, command in commands.leaves(get_command(build()), "textmill")
        for parameter in command.params
        if not parameter.help
    ]
    assert silent == []


def test_every_route_says_what_it_does_and_what_it_takes() -> None:
    listed = list(routes.all_routes())
    assert len(listed) > 30
    assert [route.path for route in listed if not (route.endpoint.__doc__ or "").strip()] == []
    assert {route.path for route in listed if not routes.scopes_of(route)} == {"/healthz", "/readyz", "/metrics", "/docs", "/docs/{topic}"}
    assert {"POST /v1/files": ("submit",), "GET /v1/audit/events": ("audit",)}.items() <= {
        f"{method} {route.path}": routes.scopes_of(route) for route in listed for method in route.methods
    }.items()


@pytest.mark.parametrize("part", ["task bodies", "request bodies", "settings", "metrics", "form"])
def test_nothing_is_listed_without_its_meaning(part: str) -> None:
    rows = [line for line in PARTS[part]().splitlines() if line.startswith("| `")]
    assert rows
    assert [row for row in rows if re.search(r"\|\s*\|$", row)] == []


def test_every_task_s_fields_are_there() -> None:
    told = bodies.tasks()
    for field in GenerateBody.__struct_fields__:
        assert f"| `{field}` |" in told
    for endpoint in TASKS:
        assert f"`{endpoint}`" in told


def test_metrics_are_called_what_prometheus_reads() -> None:
    told = {part: metrics.names(part) for part in metrics.PARTS}
    assert told[metrics.EVERY] == ["textmill_build_info", "textmill_schema_fits"]
    assert {"textmill_http_requests_total", "textmill_http_request_seconds"} <= set(told["The API"])
    assert {"textmill_batches_total", "textmill_failed_rows_total"} <= set(told["Workers"])
    assert "textmill_failed_rows_total" in told["The dispatcher"]
    assert {"textmill_queue_shards", "textmill_backlog_rows"} <= set(told["The dispatcher, while it leads"])
    assert all(len(set(names)) == len(names) for names in told.values())


def test_every_failure_is_there() -> None:
    assert all(f"| `{code}` |" in PAGES["failures"] for code in FAILURES)


def test_a_cell_cannot_break_its_table() -> None:
    assert table(("a",), [("x | y\nz",)]) == "| a |\n|---|\n| x \\| y z |"


def test_types_and_bounds_read_as_words() -> None:
    assert type_words(list[str] | None) == "list of text"
    assert type_words(int | str) == "whole number or text"
    assert limits(1, 64) == "1 to 64"
    assert limits(0, None, open_below=True) == "above 0"
    assert limits(0, 1, open_below=True) == "above 0, at most 1"
    assert limits(None, None) == ""


def test_the_pages_lie_where_a_package_takes_them_along() -> None:
    assert Path(FOLDER).is_relative_to(Path(__file__).parents[4] / "api")
