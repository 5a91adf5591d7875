"""A run of `make bench` in which a part could not run has failed, and says so, whatever the others brought."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import suite as suites
from tests.benchmarks.__main__ import exit_code
from tests.benchmarks.goals import GOALS, Figure
from tests.benchmarks.suite import PARTS, Options, Suite

METHODS = {"_agreement": "agreement", "_shapes": "shapes", "_interactive": "interactive", "_accepting": "accepting"}
METHODS |= {
    "_decoding": "decoding",
    "_null_model": "null_model",
    "_many_rows": "many_rows",
    "_tables": "tables",
    "_store": "sealing",
    "_writing": "writing",
    "_written": "written",
}


class Broken(Exception):
    pass


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """Without a stack, and with parts that bring a figure for each of their goals."""

    def bring(*keys: str) -> Callable[..., None]:
        return lambda self, *_: self.found.figures.update({key: Figure(1.0, "1") for key in keys})

    monkeypatch.setattr(suites, "running", lambda *_, **__: nullcontext(made))
    monkeypatch.setattr(suites, "BareLoop", nullcontext)
    monkeypatch.setattr(suites.end_to_end, "measure_whole", lambda *_: None)
    for method, name in METHODS.items():
        monkeypatch.setattr(Suite, method, bring(*PARTS[name]))
    monkeypatch.setattr(Suite, "_c3", bring("end_to_end_c3", "tiny_jobs"))
    monkeypatch.setattr(Suite, "_bare_and_whole", lambda self, _mill, _bare, _work, key, _seconds: bring(key)(self))
    made: Any = type("Mill", (), {"home": tmp_path})()
    return Suite(tmp_path, Options(), lambda _line: None)


def fail(*_: object, **__: object) -> None:
    raise Broken("of the parameter")


def test_a_run_in_which_every_part_ran_ends_well_whatever_came_out(suite: Suite) -> None:
    suite.run()
    assert suite.found.failures == {}
    assert exit_code(suite.found, strict=False) == 0


@pytest.mark.parametrize("method", [*METHODS, "_c3", "_bare_and_whole"])
def test_a_part_that_could_not_run_fails_the_run_and_the_others_go_on(suite: Suite, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    monkeypatch.setattr(Suite, method, fail)
    suite.run()
    assert "Broken: of the parameter" in suite.found.failures.values()
    assert exit_code(suite.found, strict=False) == 1
    assert len(suite.found.figures) >= 8


def test_workloads_of_one_part_that_fail_are_each_told(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Suite, "_bare_and_whole", fail)
    suite.run()
    assert list(suite.found.failures) == ["end_to_end BBC", "end_to_end C1"]


@pytest.mark.parametrize("figure", [None, Figure(math.nan, "nan"), Figure(math.nan, "nan", enough=False)])
@pytest.mark.parametrize("method", [method for method, name in METHODS.items() if PARTS[name]])
def test_a_part_that_brings_no_figure_for_its_goal_has_failed(
    suite: Suite, monkeypatch: pytest.MonkeyPatch, method: str, figure: Figure | None
) -> None:
    key = PARTS[METHODS[method]][-1]

    def bring(self: Suite, *_: object) -> None:
        if figure is not None:
            self.found.figures[key] = figure

    monkeypatch.setattr(Suite, method, bring)
    suite.run()
    assert key in suite.found.failures[METHODS[method]]
    assert exit_code(suite.found, strict=False) == 1


def test_a_stack_that_does_not_start_fails_its_parts_and_the_store_is_measured_still(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suites, "running", fail)
    suite.run()
    assert set(suite.found.failures) == set(PARTS) - {"decoding"}  # which needs no stack
    assert "sealing_cost" in suite.found.figures


@pytest.mark.parametrize("name", PARTS)
def test_a_part_that_is_asked_for_alone_is_measured(suite: Suite, name: str) -> None:
    suite.options = Options(only=frozenset({name}))
    suite.run()
    assert suite.found.failures == {}
    assert set(PARTS[name]) <= set(suite.found.figures)


def test_every_goal_that_is_not_the_peers_is_of_one_part() -> None:
    keys = [key for part in PARTS.values() for key in part]
    assert sorted(keys) == sorted(goal.key for goal in GOALS if not goal.is_of_peers)
