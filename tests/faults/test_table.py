"""The table of the matrix and the goals drawn from it: pure."""

from pathlib import Path

from tests.benchmarks.goals import Goal, missed, verdict
from tests.faults.counters import Counters
from tests.faults.goals import DRAINED, GOALS, KILLED, figures_of
from tests.faults.table import Line, passed_rows, read, summary, text, write

CLEAN = Counters(lost=0, doubled=0, wrong=0, unaudited=0, miscounted=0, recomputed=3)


def line(id_: str, outcome: str = "passed", test: str = "test_it", counted: Counters | None = CLEAN, **facts: object) -> Line:
    return Line(id_, "a fault", test, outcome, 1.0, counted, facts)


def test_a_row_passes_when_all_of_its_tests_do() -> None:
    lines = [line("F01"), line("F02"), line("F02", "failed"), line("F03", "skipped")]
    assert passed_rows(lines) == ["F01"]
    assert "1 of 54 rows ran here and passed; failed: F02; not run: F03, F04" in summary(lines)


def test_a_row_of_which_a_part_was_left_out_passes_by_the_rest() -> None:
    assert passed_rows([line("F01"), line("F01", "skipped")]) == ["F01"]


def test_a_row_of_which_a_part_was_left_out_is_told_as_such() -> None:
    lines = [line("F01"), line("F02"), line("F02", "skipped"), line("F03", "failed"), line("F03", "skipped"), line("F04", "skipped")]
    assert "2 of 54 rows ran here and passed; failed: F03; in part, the table says why: F02, F03; not run: F04, F05" in summary(lines)
    assert "in part" not in summary([line("F01"), line("F02", "skipped")])


def test_what_was_written_is_read_as_it_was(tmp_path: Path) -> None:
    lines = [line("F01", rec_s=0.5), line("F02", counted=None)]
    write(tmp_path / "report.json", lines)
    assert read(tmp_path / "report.json") == lines


def test_the_terminal_sees_every_counter() -> None:
    shown = text([line("F01", rec_s=0.5)])
    assert "rec_s 0.5" in shown
    assert "recomputed" in shown.splitlines()[0]


def test_what_was_not_run_is_missed_and_not_passed() -> None:
    assert missed(GOALS, figures_of([], None, None, None)) == list(GOALS)


def test_one_row_that_was_lost_anywhere_misses_the_goal() -> None:
    lost = Counters(lost=1, doubled=0, wrong=0, unaudited=0, miscounted=0, recomputed=0)
    assert _told("zeros", [line("F01"), line("F02", counted=lost)]) == "MISS"
    assert _told("zeros", [line("F01"), line("F02")]) == "pass"


def test_the_worst_kill_is_the_one_that_is_told_of() -> None:
    small = line("F04", test=f"{KILLED}[in-model-30]", a_lane=60, shard_rows=40)
    large = line("F05", test=f"{KILLED}[before-write-12]", a_lane=200, shard_rows=150)
    assert _told("recomputed", [small]) == "pass", "a micro-batch a lane is allowed, however small a shard is"
    assert _told("recomputed", [small, large]) == "MISS"


def test_a_drain_that_did_three_rows_again_misses() -> None:
    assert _told("drained", [line("F12", test=DRAINED, in_shards=0.2)]) == "MISS"


def test_a_soak_of_too_few_rows_neither_passes_nor_misses() -> None:
    counters = {"lost": 0, "doubled": 0, "wrong": 0, "unaudited": 0, "miscounted": 0}
    soak = {"counters": counters, "rows": 10, "asked_rows": 20, "real_rows": 5, "asked_real_rows": 5, "minutes": 1.0, "seed": 1}
    told = {key: verdict(goal, figures_of([], soak, None, None).get(key)) for key, goal in _goals().items()}
    assert told["soak"] == "inconclusive"
    assert verdict(_goals()["soak"], figures_of([], {**soak, "rows": 20}, None, None)["soak"]) == "pass"


def test_a_cost_on_both_sides_of_its_goal_neither_passes_nor_misses() -> None:
    guards = {"cost": 0.04, "cpu_cost": 0.03, "rows": 100, "bare": [1.0]}
    for low, high, expected in ((0.02, 0.049, "pass"), (0.02, 0.06, "inconclusive"), (0.051, 0.08, "MISS")):
        figures = figures_of([], None, {**guards, "cost": (low + high) / 2, "low": low, "high": high}, None)
        assert verdict(_goals()["cost"], figures["cost"]) == expected


def test_one_mutant_that_survives_misses() -> None:
    found, survived = {"verdict": "found"}, {"verdict": "survived"}
    assert verdict(_goals()["mutants"], figures_of([], None, None, [found, found])["mutants"]) == "pass"
    assert verdict(_goals()["mutants"], figures_of([], None, None, [found, survived])["mutants"]) == "MISS"


def _goals() -> dict[str, Goal]:
    return {goal.key: goal for goal in GOALS}


def _told(key: str, lines: list[Line]) -> str:
    return verdict(_goals()[key], figures_of(lines, None, None, None)[key])
