"""The goals of the fault matrix, from what its tests, the soak, the mutants and the guards' benchmark wrote. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tests.benchmarks.goals import Figure, Goal
from tests.faults.counters import ALWAYS_ZERO
from tests.faults.table import ROWS, Line, passed_rows

MICRO_BATCH_ROWS: Final = 64  # of the matrix
# Whose figure it is that a line of the table speaks of.
KILLED: Final = "test_a_worker_killed_at_work_costs_what_it_had_not_written"
SMALL_CHUNKS: Final = "test_with_small_chunks_a_kill_costs_a_micro_batch_a_lane"
DEFAULT_TIMES: Final = "test_a_worker_killed_with_default_times_is_replaced_within_a_lease_and_a_poll"
SEEN: Final = "test_what_a_worker_held_that_was_seen_to_die_is_at_work_elsewhere_within_two_seconds"
HUNG_LEADER: Final = "test_a_leader_that_is_stopped_is_replaced_and_does_no_harm_when_it_goes_on"
DRAINED: Final = "test_a_drain_does_nothing_twice_and_burns_no_attempt"
BEHIND_MANY: Final = "test_a_small_tenant_waits_for_two_shards_at_most_each_time"

GOALS: Final = (
    Goal("rows", "rows of the matrix that ran here and passed", "≥ 47 of 52", at_least=47),
    Goal("zeros", "lost, doubled, wrong, unaudited, miscounted, over the matrix", "0", at_most=0),
    Goal("soak", "soak: rows lost, doubled, wrong, unaudited, miscounted", "0 of ≥ 1,000,000", at_most=0),
    Goal("recomputed", "work done again after kill -9, a lane", "≤ a micro-batch, or a shard", at_most=1),
    Goal("recovery", "recovery after kill -9, to progress", "≤ 35 s (lease + poll)", at_most=35),
    Goal("recovery_seen", "… where the supervisor saw it die", "≤ 2 s", at_most=2),
    Goal("hung_leader", "leader stopped by SIGSTOP, to another's lead", "≤ 15 s", at_most=15),
    Goal("drained", "drain: work done again", "0 rows", at_most=0),
    Goal("drain_time", "drain: time, in shards", "≤ 1", at_most=1),
    Goal("cost", "null model: cost of heartbeats, fences, audit", "≤ 5 %", at_most=0.05),
    Goal("mutants", "mutants found", "all", at_least=1),
    Goal("fairness", "a hundred rows behind very many: wait, in shards a device", "≤ 2", at_most=2),
)


def figures_of(
    lines: Sequence[Line], soak: Mapping[str, Any] | None, guards: Mapping[str, Any] | None, mutants: Sequence[Mapping[str, Any]] | None
) -> dict[str, Figure]:
    """What is not there has no figure."""
    found: dict[str, Figure] = {}
    if lines:
        found |= _of_matrix(lines)
    if soak is not None:
        found["soak"] = _of_soak(soak)
    if guards is not None:
        found["cost"] = _of_guards(guards)
    if mutants:
        hit = sum(one["verdict"] == "found" for one in mutants)
        found["mutants"] = Figure(hit / len(mutants), f"{hit} of {len(mutants)}")
    return found


def _of_matrix(lines: Sequence[Line]) -> dict[str, Figure]:
    passed = passed_rows(lines)
    zeros = sum(getattr(line.counted, name) for line in lines if line.counted is not None for name in ALWAYS_ZERO)
    counted = sum(line.counted is not None for line in lines)
    found = {
        "rows": Figure(len(passed), f"{len(passed)} of {len(ROWS)}"),
        "zeros": Figure(zeros, f"{zeros:,}", f"{counted} tests that count"),
    }
    killed = [line for line in lines if line.test.partition("[")[0] == KILLED and "shard_rows" in line.facts]
    if killed:
        worst = max(killed, key=lambda line: _number(line, "a_lane") / _bound(line))
        small = _fact(lines, SMALL_CHUNKS, "a_lane")
        note = f"a shard has {_number(worst, 'shard_rows'):.0f}; {worst.id}, the worst of {len(killed)}"
        note += "" if small is None else f"; {small:.0f} rows with chunks of one micro-batch"
        found["recomputed"] = Figure(_number(worst, "a_lane") / _bound(worst), f"{_number(worst, 'a_lane'):.0f} rows", note)
    for key, test, fact, unit in (
        ("recovery", DEFAULT_TIMES, "rec_s", " s"),
        ("recovery_seen", SEEN, "rec_s", " s"),
        ("hung_leader", HUNG_LEADER, "lead_s", " s"),
        ("drain_time", DRAINED, "in_shards", ""),
        ("fairness", BEHIND_MANY, "in_shards", ""),
    ):
        if (value := _fact(lines, test, fact)) is not None:
            found[key] = Figure(value, f"{value:g}{unit}")
    for line in lines:
        if line.test == DRAINED and line.counted is not None:
            found["drained"] = Figure(line.counted.recomputed, f"{line.counted.recomputed} rows")
    return found


def _of_guards(guards: Mapping[str, Any]) -> Figure:
    """Neither passed nor missed while the goal lies within what it may be."""
    goal = next(goal.at_most for goal in GOALS if goal.key == "cost")
    assert goal is not None
    note = f"between {guards['low']:.1%} and {guards['high']:.1%} (95 %), CPU time {guards['cpu_cost']:.1%}; "
    note += f"{len(guards['bare'])} pairs of turns of {guards['rows']:,} rows"
    return Figure(guards["cost"], f"{guards['cost']:.1%}", note, enough=not guards["low"] <= goal < guards["high"])


def _bound(line: Line) -> float:
    return max(MICRO_BATCH_ROWS, _number(line, "shard_rows"))


def _fact(lines: Sequence[Line], test: str, fact: str) -> float | None:
    return next((_number(line, fact) for line in lines if line.test == test and fact in line.facts), None)


def _number(line: Line, fact: str) -> float:
    value = line.facts[fact]
    assert isinstance(value, int | float)
    return float(value)


def _of_soak(soak: Mapping[str, Any]) -> Figure:
    zeros = sum(soak["counters"][name] for name in ALWAYS_ZERO)
    note = f"{soak['rows']:,} rows, {soak['real_rows']:,} of a real model, {soak['minutes']:.0f} minutes, seed {soak['seed']}"
    return Figure(zeros, f"{zeros:,}", note, enough=soak["rows"] >= soak["asked_rows"] and soak["real_rows"] >= soak["asked_real_rows"])
