"""The pages hang together, and what they name is there: commands, options, routes, settings, metrics, codes, each other."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from api.cli.tree import build
from api.docs.html import slug
from api.docs.pages import FOLDER, TOPICS, Page, all_pages, find
from api.reference.commands import leaves
from api.reference.metrics import PARTS as METRICS
from api.reference.metrics import names
from api.reference.routes import all_routes, shown_path
from api.reference.settings import PARTS as SETTINGS
from db.settings import Role

ROOT = Path(__file__).parents[4]
README = Page("readme", (ROOT / "README.md").read_text())
COMMANDS = dict(leaves(get_command(build()), "textmill"))
GROUPS = {" ".join(path.split()[:count]) for path in COMMANDS for count in (1, 2)}
EVERY_PAGE = [*all_pages(), README]
BY_TOPIC = pytest.mark.parametrize("page", EVERY_PAGE, ids=lambda page: page.topic)
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)


def commands_of(page: Page) -> Iterator[tuple[str, list[str]]]:
    """(the command, its options) of each that a page tells to type."""
    for code in CODE.findall(page.text):
        for line in code.strip("`").splitlines():
            for typed in re.findall(r"(?:^|[|;&(] ?|run --rm api )(textmill(?: [^|;&#)]*)?)", line.strip()):
                words = typed.split()
                path = " ".join(words)
                while path and path not in COMMANDS and path not in GROUPS:
                    path = path.rpartition(" ")[0]
                yield path, [word for word in words if re.fullmatch(r"--?[a-z][a-z-]*", word)]


def options_of(command: Any) -> set[str]:
    return {"--help", "-h", "--version"}.union(*((*each.opts, *each.secondary_opts) for each in getattr(command, "params", ())))


def test_every_page_has_a_topic_and_every_topic_a_page() -> None:
    assert {path.stem for path in FOLDER.glob("*.md")} == set(TOPICS)
    assert len(set(TOPICS)) == len(TOPICS)


def test_a_topic_that_there_is_not_is_none() -> None:
    for name in ("", "nothing", "../pages/jobs", "jobs.md", "JOBS"):
        assert find(name) is None


@pytest.mark.parametrize("page", all_pages(), ids=lambda page: page.topic)
def test_a_page_begins_with_a_title_and_a_summary_of_one_line(page: Page) -> None:
    assert re.fullmatch(r"# \S.*", page.text.partition("\n")[0])
    assert page.title
    assert 20 < len(page.summary) < 200
    assert "<!--" not in page.text
    assert page.text.count("\n# ") == 0


@BY_TOPIC
def test_a_link_to_a_page_finds_its_place(page: Page) -> None:
    headings = {other.topic: {slug(line.lstrip("# ")) for line in other.text.splitlines() if line.startswith("#")} for other in all_pages()}
    for target, place in re.findall(r"\]\((?:api/docs/pages/)?([\w-]+)\.md(?:#([\w-]+))?\)", page.text):
        if target in headings:
            assert not place or place in headings[target], f"{target}.md#{place}"
        else:
            assert page is README, target


@BY_TOPIC
def test_a_command_that_a_page_tells_to_type_is_one(page: Page) -> None:
    for path, options in commands_of(page):
        assert path, "textmill"
        unknown = set(options) - options_of(COMMANDS.get(path)) if path in COMMANDS else set()
        assert not unknown, (path, unknown)
        assert path in COMMANDS or path in GROUPS


def test_the_search_for_commands_finds_some() -> None:
    found = {path for page in EVERY_PAGE for path, _ in commands_of(page)}
    assert {"textmill label", "textmill up", "textmill jobs retry", "textmill keys create"} <= found


@BY_TOPIC
def test_a_route_that_a_page_names_is_one(page: Page) -> None:
    known = {(method, re.sub(r"\{\w+\}", "{}", shown_path(route))) for route in all_routes() for method in route.methods or ()}
    for method, path in re.findall(r"`(GET|POST|PUT|DELETE) (/[\w/{}-]*)[^`]*`", page.text):
        assert (method, re.sub(r"\{\w+\}", "{}", path)) in known, (method, path)


@BY_TOPIC
def test_a_metric_that_a_page_names_is_one(page: Page) -> None:
    known = {name for part in METRICS for name in names(part)}
    login_roles = {role.login for role in Role} | {"textmill_backup"}
    assert set(re.findall(r"\btextmill_[a-z_]+", page.text)) <= known | login_roles


@BY_TOPIC
def test_a_setting_that_a_page_names_is_read_somewhere(page: Page) -> None:
    assert set(re.findall(r"TEXTMILL_[A-Z_]*[A-Z]", page.text)) <= variables_read()


def test_every_variable_that_the_program_reads_is_on_the_page_of_settings() -> None:
    settings = find("settings")
    assert settings is not None
    assert variables_read() - set(re.findall(r"`(TEXTMILL_[A-Z_]+)`", settings.text)) == set()


def variables_read() -> set[str]:
    """Of the settings' classes, and of whatever else in the packages spells one out."""
    fields = {f"TEXTMILL_{name.upper()}" for kind in SETTINGS.values() for name in kind.model_fields}
    sources = [path for package in ("db", "workers", "api") for path in (ROOT / package).rglob("*.py")]
    spelled = {name for path in sources for name in re.findall(r"TEXTMILL_[A-Z][A-Z_]*[A-Z](?![A-Z_{])", path.read_text())}
    roles = {f"TEXTMILL_DB_PASSWORD_{role}" for role in ("OWNER", "API", "WORKER", "DISPATCHER", "AUDITOR")}
    return fields | spelled | roles


def test_every_error_code_of_the_front_is_on_the_page_of_http() -> None:
    http, failures = find("http"), find("failures")
    assert http is not None
    assert failures is not None
    told = set(re.findall(r"`([a-z_0-9]+)`", http.text + failures.text))
    raised = set()
    for room in ("api/routes", "api/requests", "api/streams", "api/formats", "db/files", "db/jobs", "db/catalogue"):
        for path in (ROOT / room).glob("*.py"):
            raised |= set(re.findall(r'(?:Refused\(|code=)\s*"([a-z_0-9]+)"', path.read_text()))
    assert len(raised) > 30
    assert raised - told == set()


def test_links_read_as_commands_on_a_terminal() -> None:
    page = Page("x", "# X\n\nSee [jobs](jobs.md#steering) and [the site](https://example.org).\n")
    assert page.on_terminal == "# X\n\nSee jobs (`textmill docs jobs`) and [the site](https://example.org).\n"
