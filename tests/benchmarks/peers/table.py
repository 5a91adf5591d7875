"""The goals, judged, and the reports. Pure: from figures to text."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

LEAST_AGREEMENT: Final = 0.995
WIDE_FLAGS: Final = frozenset({"avx512_bf16", "avx512_vnni"})
OURS: Final = "textmill"
OURS_OPENVINO: Final = "textmill-openvino"
WRITTEN: Final = ("G1", "G2")  # workloads of prompts, of which tokens are counted
NO_TIME: Final = "no time was left"


@dataclass(frozen=True, slots=True)
class Row:
    """One contender's figures over one workload; without ``docs_per_second`` it did not run, for ``reason``. ``docs``: texts of a run, of
    ``of``. ``agreement``: share of labels that are fp32's; None where there is no model. Where prompts are answered, docs are prompts,
    speeds are of output tokens, and those agree that begin as fp32's answer does."""

    name: str
    about: str
    of: int
    docs: int = 0
    docs_per_second: float | None = None
    least: float | None = None
    most: float | None = None
    docs_per_cpu_second: float | None = None
    runs: int = 0
    agreement: float | None = None
    reason: str | None = None

    @property
    def ran(self) -> bool:
        return self.docs_per_second is not None


@dataclass(frozen=True, slots=True)
class Goal:
    """``ratio`` of docs/s, or tokens/s; None: not measured, and ``against`` says why. ``cpu_ratio`` of docs per CPU-second to that
    peer's: what other work on the machine does not blur, and None where the peer's is not counted."""

    what: str
    least: float
    ratio: float | None
    against: str
    cpu_ratio: float | None = None

    @property
    def verdict(self) -> str:
        return "not measured" if self.ratio is None else "pass" if self.ratio >= self.least else "miss"


Results = Mapping[str, Sequence[Row]]  # by workload


def goals(
    results: Results,
    cpu_flags: frozenset[str],
    *,
    engines: Sequence[str],
    padded_int8: Sequence[str],
    null_peer: str,
    vllm: str,
    openvino: str,
    asked_for: Mapping[str, str],
) -> list[Goal]:
    """The lines of the goals table that speak of peers. ``asked_for``: why a peer is not run unless it is named.

    Two lines are asked twice: of the fastest whatever it answers, and of the fastest that passes the gate our own engines have to pass.
    """
    against_pipeline = 10.0 if WIDE_FLAGS & cpu_flags else 5.0
    return [
        _goal(results, "C3", "C3, upload to sealed results read, against the transformers pipeline", against_pipeline, ["pipeline"]),
        _goal(results, "C3", "C3, the same, against celery-batches with that pipeline", against_pipeline, ["celery-batches"]),
        _goal(results, "C3", "C3, the same, against the best engine without queue, sealing and store", 1.2, engines),
        _goal(results, "C3", "C3, the same, against the best of those whose labels are fp32's", 1.2, engines, only_agreeing=True),
        _goal(results, "C4", "C4 (heavy tail), the same, against the best padded int8 engine", 2.0, padded_int8),
        _goal(results, "C4", "C4, the same, against the best engine whose labels are fp32's", 2.0, engines, only_agreeing=True),
        _goal(results, "null", "no model: documents against Celery's task a document", 20.0, [null_peer]),
        _goal(
            results, "G1", "G1, prompts uploaded to answers read, output tokens/s against vLLM offline", 1.0, [vllm], asked_for=asked_for
        ),
        _goal(results, "G2", "G2 (512 tokens shared), the same, against vLLM with its prefix cache", 1.0, [vllm], asked_for=asked_for),
        _goal(
            results,
            "G1",
            "G1, the same on OpenVINO GenAI int8, against that engine bare",
            0.95,
            [openvino],
            ours_name=OURS_OPENVINO,
            asked_for=asked_for,
        ),
    ]


def _goal(
    results: Results,
    workload: str,
    what: str,
    least: float,
    names: Sequence[str],
    *,
    only_agreeing: bool = False,
    ours_name: str = OURS,
    asked_for: Mapping[str, str] | None = None,
) -> Goal:
    rows = {row.name: row for row in results.get(workload, ())}
    ours = rows.get(ours_name)
    asked = [rows[name] for name in names if name in rows and not (only_agreeing and differs(rows[name].agreement))]
    speeds = {row.name: row.docs_per_second for row in asked if row.docs_per_second is not None}
    if ours is None or ours.docs_per_second is None or not speeds:
        return Goal(
            what, least, None, _why_not([rows.get(name) for name in (*names, ours_name)], [(asked_for or {}).get(name) for name in names])
        )
    best = max(speeds, key=lambda name: speeds[name])
    ours_cpu, best_cpu = ours.docs_per_cpu_second, rows[best].docs_per_cpu_second
    return Goal(what, least, ours.docs_per_second / speeds[best], best, ours_cpu / best_cpu if ours_cpu and best_cpu else None)


def _why_not(rows: Sequence[Row | None], asked_for: Sequence[str | None]) -> str:
    told = [f"{row.name} could not run: {row.reason or NO_TIME}" for row in rows if row is not None and not row.ran]
    return "; ".join(told) or next((why for why in asked_for if why), "–")


def not_run(results: Results, left_out: Collection[str]) -> list[str]:
    """What had to run and did not, with why, which fails the run. ``left_out``: peers that no rule asks for here."""
    if not results:
        return ["no workload was run"]
    lines = []
    for workload, rows in results.items():
        lines += [f"{workload}: {row.name} ({row.reason or NO_TIME})" for row in rows if not row.ran and row.name not in left_out]
        if not any(row.ran for row in rows if row.name != OURS):
            lines.append(f"{workload}: no peer ran")
    return lines


def goals_table(judged: Sequence[Goal]) -> str:
    lines = ["| goal | at least | measured | by CPU time | against | |", "|---|---|---|---|---|---|"]
    for goal in judged:
        lines.append(
            f"| {goal.what} | {goal.least:g}× | {_times(goal.ratio)} | {_times(goal.cpu_ratio)} | {goal.against} | {goal.verdict} |"
        )
    return "\n".join(lines)


def _times(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f}×"


def workload_table(rows: Sequence[Row], *, written: bool = False) -> str:
    """Best first, those that did not run last. "ours ÷ it" is the ratio of medians. ``written``: of prompts."""
    ours = next((row.docs_per_second for row in rows if row.name == OURS), None)
    lines = [
        "| | tokens/s, median (range) | tokens per CPU-second | ours ÷ it | prompts a run | runs | begin as fp32 |"
        if written
        else "| | docs/s, median (range) | docs per CPU-second | ours ÷ it | texts a run | runs | labels as fp32 |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: -(row.docs_per_second or 0.0)):
        title = f"{row.name}: {row.about}"
        if row.docs_per_second is None:
            lines.append(f"| {title} | not run: {row.reason or NO_TIME} | | | | | |")
            continue
        ratio = _times(ours / row.docs_per_second if ours is not None else None)
        cpu = f"{row.docs_per_cpu_second:,.1f}" if row.docs_per_cpu_second is not None else "not counted"
        size = f"{row.docs:,}" if row.docs == row.of else f"{row.docs:,} of {row.of:,}"
        lines.append(
            f"| {title} | {row.docs_per_second:,.1f} ({row.least:,.1f}–{row.most:,.1f}) | {cpu} | {ratio} | {size} | {row.runs} "
            f"| {agreed(row.agreement, least=0.0 if written else LEAST_AGREEMENT)} |"
        )
    return "\n".join(lines)


def differs(agreement: float | None) -> bool:
    """Whether fewer labels are fp32's than we ask of our own engines; who was not compared is not known to agree."""
    return agreement is None or agreement < LEAST_AGREEMENT


def agreed(share: float | None, *, least: float) -> str:
    if share is None:
        return "–"
    return f"{share:.2%}" + (" (differs)" if share < least else "")


def markdown(report: Mapping[str, object], results: Results, judged: Sequence[Goal], about: Mapping[str, str]) -> str:
    """The report for people. ``about``: what each workload is."""
    machine = report["machine"]
    assert isinstance(machine, Mapping)
    parts = [
        "# textmill and its peers on the same texts",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB; {', '.join(_interesting(machine['cpu_flags']))}. "
        f"Load average before: {report['load_before']}, after: {report['load_after']}. Revision {machine['revision']}.",
        "Peers get texts in memory and give labels in memory, model loaded and warm. textmill is the whole system: from the first byte of "
        "the upload to the last label read from the sealed results. While peers ran, its idle stack used "
        f"{report['idle_share']:.1%} of a core. All embed with the weights of all-MiniLM-L6-v2 (mean pooling, unit length, at most 256 "
        "tokens) and give the label whose prototype is nearest; who gives fewer than "
        f"{LEAST_AGREEMENT:.1%} of fp32's labels is marked. A slow peer runs a sample, spread evenly over the texts. "
        "Prompts (G1, G2) are answered by Gemma 3 270M, greedy, with the same end tokens and most tokens everywhere and as many threads; a "
        "turn has prompts of its own.",
        goals_table(judged),
    ]
    for workload, rows in results.items():
        parts += [f"## {workload}: {about.get(workload, '')}", workload_table(rows, written=workload in WRITTEN)]
    parts += ["## Versions and settings", _versions(report["peers"])]
    return "\n\n".join(parts) + "\n"


def _interesting(flags: object) -> list[str]:
    assert isinstance(flags, Sequence)
    return [str(flag) for flag in flags if flag in {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "amx_bf16"}]


def _versions(peers: object) -> str:
    assert isinstance(peers, Mapping)
    lines = ["| | packages | settings |", "|---|---|---|"]
    for name, told in peers.items():
        packages = ", ".join(told["requirements"])
        settings = ", ".join(f"{key} {value}" for key, value in told["settings"].items())
        lines.append(f"| {name} | {packages} | {settings or '–'} |")
    return "\n".join(lines)


def as_json(results: Results, judged: Sequence[Goal]) -> dict[str, object]:
    return {
        "results": {workload: [asdict(row) for row in rows] for workload, rows in results.items()},
        "goals": [{**asdict(goal), "verdict": goal.verdict} for goal in judged],
    }
