import pytest

from tests.benchmarks.peers.table import OURS, OURS_OPENVINO, Goal, Row, as_json, goals, goals_table, markdown, not_run, workload_table

WIDE = frozenset({"avx2", "avx512_bf16"})
ENGINES = ["st", "ct2"]


def row(
    name: str, speed: float | None, *, cpu: float | None = None, docs: int = 100, agreement: float | None = None, reason: str | None = None
) -> Row:
    about = f"about {name}"
    return Row(name, about, 100, docs, speed, least=speed, most=speed, docs_per_cpu_second=cpu, runs=3, agreement=agreement, reason=reason)


def judge(results: dict[str, list[Row]], flags: frozenset[str] = WIDE) -> list[Goal]:
    return goals(
        results,
        flags,
        engines=ENGINES,
        padded_int8=["st"],
        null_peer="celery-null",
        vllm="vllm",
        openvino="ov",
        asked_for={"vllm": "only where it is named", "ov": "it is large"},
    )


C3 = [row(OURS, 600.0), row("pipeline", 50.0), row("celery-batches", 75.0), row("st", 300.0), row("ct2", 550.0)]


def test_a_goal_is_the_ratio_to_the_best_of_those_it_speaks_of() -> None:
    pipeline, batches, engine, _, tail, _, null, *_ = judge({"C3": C3, "C4": [row(OURS, 900.0), row("st", 300.0), row("ct2", 800.0)]})
    assert (pipeline.ratio, pipeline.verdict) == (12.0, "pass")
    assert (batches.ratio, batches.verdict) == (8.0, "miss")
    assert (engine.against, engine.verdict) == ("ct2", "miss")
    assert engine.ratio == pytest.approx(1.09, abs=0.01)
    assert (tail.against, tail.ratio, tail.verdict) == ("st", 3.0, "pass")
    assert (null.ratio, null.verdict) == (None, "not measured")


def test_who_gives_other_labels_is_left_out_of_the_line_that_says_so() -> None:
    rows = [row(OURS, 300.0, agreement=0.998), row("st", 200.0, agreement=0.999), row("ct2", 400.0, agreement=0.98)]
    _, _, fastest, agreeing, *_ = judge({"C3": rows})
    assert (fastest.against, fastest.verdict) == ("ct2", "miss")
    assert (agreeing.against, agreeing.ratio, agreeing.verdict) == ("st", 1.5, "pass")
    _, _, _, nobody, *_ = judge({"C3": [rows[0], rows[2]]})
    assert nobody.verdict == "not measured"


def test_cpu_time_is_told_beside_and_judges_nothing() -> None:
    (pipeline, *_) = judge({"C3": [row(OURS, 600.0, cpu=220.0), row("pipeline", 100.0, cpu=20.0)]})
    assert (pipeline.cpu_ratio, pipeline.verdict) == (11.0, "miss")
    assert "| 6.00× | 11.00× |" in goals_table([pipeline])


def test_less_is_asked_for_where_the_cpu_has_neither_bf16_nor_vnni() -> None:
    assert [goal.least for goal in judge({"C3": C3}, frozenset({"avx2"}))][:2] == [5.0, 5.0]
    assert [goal.least for goal in judge({"C3": C3}, frozenset({"avx512_vnni"}))][:2] == [10.0, 10.0]


def test_a_peer_that_did_not_run_is_no_pass() -> None:
    judged = judge({"C3": [row(OURS, 600.0), row("pipeline", None, reason="pip could not install it")]})
    assert judged[0].verdict == "not measured"
    assert judge({"C3": [row("pipeline", 50.0)]})[0].verdict == "not measured"


def test_the_goals_table_has_a_line_and_a_verdict_for_each() -> None:
    told = goals_table(judge({"C3": C3})).splitlines()
    assert len(told) == 2 + 10
    assert "12.00×" in told[2]
    assert told[2].endswith("| pass |")
    assert told[8].endswith("| not measured |")
    assert told[9].endswith("| only where it is named | not measured |")


def test_what_is_written_is_judged_against_each_engine_and_ours_on_openvino_against_openvino() -> None:
    written = {
        "G1": [row(OURS, 90.0, cpu=50.0), row(OURS_OPENVINO, 98.0), row("vllm", 100.0, cpu=40.0), row("ov", 100.0)],
        "G2": [row(OURS, 90.0), row("vllm", 60.0)],
    }
    *_, vllm, shared, openvino = judge(written)
    assert (vllm.ratio, vllm.cpu_ratio, vllm.verdict) == (0.9, 1.25, "miss")
    assert (shared.ratio, shared.verdict) == (1.5, "pass")
    assert (openvino.against, openvino.ratio, openvino.verdict) == ("ov", 0.98, "pass")


def test_an_engine_that_could_not_run_stands_in_the_goals_line_with_its_reason_and_fails_the_run() -> None:
    rows = [
        row(OURS, 90.0),
        row("vllm", 80.0),
        row("ov", None, reason="its conversion failed"),
        row(OURS_OPENVINO, None, reason="no model"),
    ]
    *_, openvino = judge({"G1": rows})
    assert openvino.verdict == "not measured"
    assert openvino.against == f"ov could not run: its conversion failed; {OURS_OPENVINO} could not run: no model"
    assert not_run({"G1": rows}, left_out=()) == ["G1: ov (its conversion failed)", f"G1: {OURS_OPENVINO} (no model)"]


def test_what_is_written_is_told_in_tokens_and_texts_that_differ_are_no_fault() -> None:
    told = workload_table([row(OURS, 90.0, agreement=0.95)], written=True)
    assert "tokens/s" in told
    assert "95.00% |" in told


def test_the_workload_table_is_best_first_and_says_why_one_did_not_run() -> None:
    told = workload_table([row("slow", 10.0), row(OURS, 20.0), row("gone", None, reason="it has ended"), row("late", None)]).splitlines()
    assert [line.split(":")[0] for line in told[2:]] == ["| textmill", "| slow", "| gone", "| late"]
    assert "2.00×" in told[3]
    assert "not run: it has ended" in told[4]
    assert "not run: no time was left" in told[5]


def test_a_sample_and_other_labels_are_marked() -> None:
    told = workload_table([row("peer", 10.0, docs=40, agreement=0.981), row("same", 10.0, agreement=0.999)])
    assert "40 of 100" in told
    assert "98.10% (differs)" in told
    assert "99.90% |" in told


def test_both_reports_hold_every_figure() -> None:
    results = {"C3": C3}
    judged = judge(results)
    report = {
        "machine": {"cpu": "a CPU", "cores": 2, "memory_gb": 8.0, "cpu_flags": ["avx", "avx2"], "revision": "abc"},
        "load_before": [0.1],
        "load_after": [2.0],
        "idle_share": 0.02,
        "peers": {"st": {"requirements": ["st==1"], "versions": {"st": "1"}, "settings": {"threads": 2}}},
    }
    told = markdown(report, results, judged, {"C3": "4,000 texts"})
    for expected in ("## C3: 4,000 texts", "about ct2", "12.00×", "a CPU, 2 cores", "; avx2. ", "st==1", "threads 2", "2.0% of a core"):
        assert expected in told
    machine_readable = as_json(results, judged)
    assert isinstance(machine_readable["goals"], list)
    assert machine_readable["goals"][0]["verdict"] == "pass"


def test_a_peer_that_could_not_run_fails_the_run_and_is_named_with_its_reason() -> None:
    rows = [*C3, row("fastembed", None, reason="pip could not install it"), row("late", None)]
    assert not_run({"C3": rows}, left_out=()) == ["C3: fastembed (pip could not install it)", "C3: late (no time was left)"]
    assert not_run({"C3": C3}, left_out=()) == []


def test_a_peer_that_is_left_out_by_rule_fails_nothing() -> None:
    assert not_run({"C3": [*C3, row("vllm-cpu", None, reason="only where it is asked for")]}, left_out=["vllm-cpu"]) == []


def test_a_run_with_nobody_to_compare_with_has_failed() -> None:
    alone = [row(OURS, 600.0), row("vllm-cpu", None, reason="only where it is asked for")]
    assert not_run({"C3": alone}, left_out=["vllm-cpu"]) == ["C3: no peer ran"]
    assert not_run({}, left_out=()) == ["no workload was run"]
