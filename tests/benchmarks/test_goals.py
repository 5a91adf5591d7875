"""The goals table says pass where a goal is reached and MISS where it is not, and hides nothing."""

import json
import math

import pytest

from tests.benchmarks.goals import GOALS, Figure, Goal, goal_rows, markdown_table, missed, text_table, verdict
from tests.benchmarks.report import Findings, as_json, as_markdown, on_the_terminal

AT_LEAST = Goal("fast", "speed", "≥ 0.95", at_least=0.95)
AT_MOST = Goal("cheap", "cost", "≤ 2 %", at_most=0.02)
OF_PEERS = Goal("peers", "against others", "≥ 10×")
MACHINE: dict[str, object] = {
    "cpu": "a CPU",
    "cpu_flags": ["avx2"],
    "cores": 2,
    "memory_gb": 8,
    "load_average": (0.5, 0.4, 0.3),
    "kernel": "6",
    "python": "3.11",
    "versions": {"torch": "2"},
    "revision": "0123456789abcdef",
    "changed_files": 0,
}


@pytest.mark.parametrize(
    ("goal", "value", "passes"),
    [
        (AT_LEAST, 0.95, True),
        (AT_LEAST, 1.2, True),
        (AT_LEAST, 0.9499, False),
        (AT_MOST, 0.02, True),
        (AT_MOST, -0.5, True),
        (AT_MOST, 0.0201, False),
    ],
)
def test_a_figure_passes_at_its_bound_and_not_beyond(goal: Goal, value: float, passes: bool) -> None:
    assert verdict(goal, Figure(value, str(value))) == ("pass" if passes else "MISS")


def test_a_line_without_a_figure_is_not_measured_and_counts_as_missed() -> None:
    assert verdict(AT_LEAST, None) == "not measured"
    assert missed([AT_LEAST], {}) == [AT_LEAST]


@pytest.mark.parametrize("goal", [AT_LEAST, AT_MOST])
@pytest.mark.parametrize("enough", [True, False])
def test_a_figure_that_is_no_number_was_not_measured_however_often(goal: Goal, enough: bool) -> None:
    figures = {goal.key: Figure(math.nan, "nan", enough=enough)}
    assert verdict(goal, figures[goal.key]) == "not measured"
    assert missed([goal], figures) == [goal]


def test_a_line_of_the_peers_points_to_their_run_and_is_not_missed() -> None:
    assert verdict(OF_PEERS, None) == "see make bench-peers"
    assert missed([OF_PEERS], {}) == []


@pytest.mark.parametrize("value", [0.5, 0.99])
def test_a_figure_from_too_few_runs_neither_passes_nor_misses_and_fails_a_strict_run(value: float) -> None:
    figures = {"fast": Figure(value, str(value), enough=False)}
    assert verdict(AT_LEAST, figures["fast"]) == "inconclusive"
    assert missed([AT_LEAST], figures) == [AT_LEAST]


def test_what_passed_is_not_among_the_missed() -> None:
    figures = {"fast": Figure(1.0, "1.000"), "cheap": Figure(0.5, "50 %")}
    assert missed([AT_LEAST, AT_MOST, OF_PEERS], figures) == [AT_MOST]


def test_every_goal_has_a_line_of_its_own() -> None:
    assert len({goal.key for goal in GOALS}) == len(GOALS)
    assert [row[0] for row in goal_rows(GOALS, {})] == [goal.what for goal in GOALS]


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert text_table(("a", "b"), [("long cell", "1"), ("x", "2")]).splitlines() == [
        "a          b",
        "─────────  ─",
        "long cell  1",
        "x          2",
    ]


def test_a_bar_within_a_cell_does_not_end_it() -> None:
    assert markdown_table(("a", "b"), [("max |Δp|", "1")]).splitlines()[-1] == "| max \\|Δp\\| | 1 |"


def findings() -> Findings:
    found = Findings()
    found.figures["end_to_end_c3"] = Figure(0.97, "0.970", "3 turns")
    found.figures["null_model"] = Figure(3.0, "3.0×")
    found.failures["sealing"] = "OSError: no space"
    return found


def test_the_reports_show_misses_and_what_failed() -> None:
    for shown in (on_the_terminal(findings()), as_markdown(findings(), MACHINE, 60.0, {"turns": 3})):
        assert "MISS" in shown
        assert "not measured: OSError: no space" in shown
        assert "0.970" in shown


def test_the_json_report_holds_every_goal_with_its_verdict() -> None:
    report = json.loads(as_json(findings(), MACHINE, 60.0, {"turns": 3}))
    verdicts = {goal["key"]: goal["verdict"] for goal in report["goals"]}
    assert verdicts["end_to_end_c3"] == "pass"
    assert verdicts["null_model"] == "MISS"
    assert verdicts["pipeline"] == "see make bench-peers"
    assert set(verdicts) == {goal.key for goal in GOALS}
