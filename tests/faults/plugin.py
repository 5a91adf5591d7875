"""The table of the fault matrix: each test says what it counted, and `--fault-report FILE` writes all of it as JSON and markdown.

A test carries `@pytest.mark.fault("F04", "kill -9 during the model")`. Those that also carry `matrix` take long or are many, and run with
`--matrix` only (`make faults`); the others are part of `make test` as well. Its hooks are taken into tests/conftest.py, because options
must be known before a conftest further down is read.
"""

from collections.abc import Generator, Mapping
from pathlib import Path

import pytest

from tests.faults.counters import Counters
from tests.faults.table import Line, write

LINES = pytest.StashKey[list[Line]]()
COUNTED = pytest.StashKey[Counters]()
FACTS = pytest.StashKey[Mapping[str, object]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--matrix", action="store_true", help="run the whole fault matrix")
    parser.addoption("--fault-report", type=Path, help="write what the fault tests counted to this .json, and beside it as .md")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fault(id, what): a row of the fault matrix")
    config.addinivalue_line("markers", "matrix: too long for every day; runs with --matrix")
    config.stash[LINES] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--matrix"):
        return
    left_out = [item for item in items if item.get_closest_marker("matrix") is not None]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    marker = item.get_closest_marker("fault")
    if marker is not None and (report.when == "call" or (report.when == "setup" and report.outcome != "passed")):
        id_, what = marker.args
        reason = report.longrepr[2] if report.skipped and isinstance(report.longrepr, tuple) else ""
        line = Line(
            id_, what, item.name, report.outcome, round(call.duration, 1), item.stash.get(COUNTED, None), item.stash.get(FACTS, {}), reason
        )
        item.config.stash[LINES].append(line)
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    path: Path | None = session.config.getoption("--fault-report")
    if path is not None:
        lines = session.config.stash[LINES]
        write(path, lines)
