"""The rules of the house that no linter knows: what lies at the top, what `api` may load, and that the documents tell of what is there."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("db", "workers", "api")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
PAGES = [str(path.relative_to(ROOT)) for path in (ROOT / "api/docs/pages").glob("*.md")]
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md", "deploy/README.md")
AT_THE_TOP = {
    "pyproject.toml",
    *PACKAGES,
    "tests",
    "deploy",
    "README.md",
    "ARCHITECTURE.md",
    "SECURITY.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    ".ci",
    ".editorconfig",
    ".gitignore",
    ".gitattributes",
}
STEPS = ("upload", "seal", "shard", "dispatch", "claim", "batch", "run", "seal", "store", "read")
HEAVY = ("torch", "transformers", "sklearn", "scipy")
LIGHT_MODULES = (
    "api",
    "api.app",
    "api.cli",
    "api.cli.commands.stack",
    "api.client",
    "api.docs.html",
    "api.local.up",
    "workers.app",
    "workers.dispatch.dispatcher",
    "workers.host.device",
    "workers.host.process",
    "workers.inference.runtime",
    "workers.settings",
    "workers.models.registry",
    "workers.tasks.classify.by_rules",  # a worker without torch runs rules and templates
    "workers.tasks.classify.running",
    "workers.tasks.generate.running",
)


def module(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("name", LIGHT_MODULES)
def test_what_the_front_and_a_worker_without_an_engine_import_loads_no_torch(name: str) -> None:
    code = f"import sys, {name}; print([heavy for heavy in {HEAVY} if heavy in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_nothing_else_lies_at_the_top() -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert {name.split("/")[0] for name in listed} <= AT_THE_TOP


def test_no_file_is_a_drawer_for_odds_and_ends() -> None:
    for path in (*SOURCES, *(ROOT / "tests").rglob("*.py")):
        assert path.stem.strip("_") not in {"util", "utils", "helper", "helpers", "common", "misc"}, module(path)


@pytest.mark.parametrize("package", PACKAGES)
def test_tests_lie_in_the_rooms_of_what_they_test(package: str) -> None:
    for top in (ROOT / "tests" / package, ROOT / "tests" / "unit" / package):
        rooms = {path.parent.relative_to(top) for path in top.rglob("test_*.py")}
        assert rooms
        assert {room for room in rooms if not (ROOT / package / room).is_dir()} == set()


def test_a_test_waits_for_what_it_waits_for() -> None:
    """And not for a time. How long a fault lasts, how fast somebody asks: those are times (tests/faults, tests/benchmarks)."""
    timed = {"tests/waiting.py", "tests/workers/shard/test_life.py"}  # the second: a model that takes long to load
    tests = [path for path in (ROOT / "tests").rglob("*.py") if path.relative_to(ROOT).parts[1] not in {"faults", "benchmarks"}]
    assert {module(path) for path in tests if re.search(r"^\s+.*time\.sleep\(", path.read_text(), re.MULTILINE)} == timed


@pytest.mark.parametrize("path", SOURCES, ids=module)
def test_a_module_says_what_it_is_and_is_finished(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "no docstring"
    assert not re.search(r"\b(TODO|FIXME|XXX|NotImplementedError)\b", text)


@pytest.mark.parametrize("path", [path for path in SOURCES if ROOT / "db" not in path.parents], ids=module)
def test_sql_is_written_in_db_alone(path: Path) -> None:
    """Elsewhere a database has an address and errors, and no words."""
    allowed = {"sqlalchemy": {"URL", "make_url"}, "sqlalchemy.exc": None}
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                assert not {name.name.partition(".")[0] for name in names} & {"sqlalchemy", "psycopg"}
            case ast.ImportFrom(module=str(source), names=names) if source.partition(".")[0] in {"sqlalchemy", "psycopg"}:
                assert source in allowed, source
                assert allowed[source] is None or {name.name for name in names} <= allowed[source]
            case ast.Attribute(attr="execute" | "transaction" as name):
                pytest.fail(f"line {node.lineno}: .{name}")


def test_files_stay_short_enough_to_be_about_one_thing() -> None:
    long = {module(path): lines for path in SOURCES if (lines := path.read_text().count("\n")) > 480}
    assert long == {}


def test_the_walk_through_the_house_names_files_for_each_of_the_ten_steps() -> None:
    rows = re.findall(r"^\| (\d+) (\w+) \|.*\| ([^|]+) \|$", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE)
    assert [(int(number), step) for number, step, _ in rows] == list(enumerate(STEPS, 1))
    for _, step, where in rows:
        assert re.findall(r"`([^`]+)`", where), step


def test_the_walk_through_the_house_names_every_room_with_a_sentence() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    rooms = [path.parent for package in PACKAGES for path in (ROOT / package).glob("*/**/__init__.py") if path.parent.name != "versions"]
    assert len(rooms) > 30
    for room in rooms:
        assert re.search(rf"^\| `{module(room)}/` \| \S.{{20,}} \|$", text, re.MULTILINE), room


@pytest.mark.parametrize("name", [*DOCUMENTS, *sorted(PAGES)])
def test_every_path_that_a_document_names_exists(name: str) -> None:
    document = ROOT / name
    text = document.read_text()
    paths = re.findall(r"`((?:db|workers|api|tests|deploy)/[\w./@*-]*)`", text)
    missing = [path for path in paths if not list(ROOT.glob(path.rstrip("/")))]
    assert missing == []
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_the_changelog_begins_with_what_is_unreleased_and_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    heads = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert heads[heads[0] == "Unreleased"] == version


def test_make_help_tells_of_every_target() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)[0].split())
    assert {"setup", "demo", "test", "check", "bench", "clean", "help"} <= targets
    assert set(re.findall(r"^([a-z-]+):.*## ", text, re.MULTILINE)) == targets


def test_the_licence_is_the_one_that_is_declared() -> None:
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"] == "Apache-2.0"
