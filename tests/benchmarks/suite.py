"""Which benchmark proves which line of the goals table.

Each method here is a part of `make bench`: it runs a benchmark and enters its figures under the goals' keys, and what else was measured by
its own name. A part that fails, or brings no figure for a goal of its own, is on the report as not measured and fails the run; the others
go on.
"""

import math
import os
import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from api.demo.corpus import LABELS
from tests.benchmarks import accepting, decoding, end_to_end, interactive, many_rows, shapes, tables, writing, written
from tests.benchmarks.agreement import measure_agreement
from tests.benchmarks.bare import BareLoop
from tests.benchmarks.goals import Figure
from tests.benchmarks.mill import NULL_ENVIRONMENT, Mill, environment, running
from tests.benchmarks.null_model import measure_null_model
from tests.benchmarks.report import Findings
from tests.benchmarks.store_only import measure_store
from tests.benchmarks.tiny_jobs import Tenants, measure_tiny_jobs
from tests.benchmarks.turns import Run, Series, in_turns, ratio
from tests.benchmarks.workloads import C3_MEAN_TOKENS, JOB_ROWS, TENANTS, Workload, bbc, c1, c2, c3, c4, c5, c8, many

MEGABYTE = 1_000_000
UNCALIBRATED = {"TEXTMILL_DTYPE": "float32"}  # where the format is named, no decoder is calibrated beside what is measured
SEALING_OFF = {"TEXTMILL_UNSAFE_SEALING_OFF": "1"}
WARM_UP_TEXTS = 200
BULK_TEXTS = 6_000
INTERACTIVE_JOBS = 25
STORE_ROWS = 20_000
SHAPE_SECONDS = 12.0
# A turn of C3 is some seven of its bare runs (twice the whole way, and C5 with twice the documents at a lower rate): three turns must fit.
C3_RUN_SECONDS = 9.0
C3_SECONDS = 220.0
RUNS_ALLOWED = 10  # six runs, and room for a machine that gets busier after the loop was tuned
# Below these a figure is shown as inconclusive. One turn on a busy machine can make the whole way look faster than its own bare loop.
ENOUGH_TURNS = 3
QUICK = 8  # texts or rows of anything
ENOUGH_WAITS = 100  # documents: the p99 of fewer is their maximum
# The goals of which each part brings the figures.
PARTS: Final = {
    "end_to_end": ("end_to_end_c3", "end_to_end_bbc", "end_to_end_c1"),
    "tiny_jobs": ("tiny_jobs",),
    "sealing": ("sealing_cost",),
    "agreement": ("agreement",),
    "shapes": (),
    "interactive": ("interactive_p99", "bulk_loss"),
    "accepting": ("accepted_seconds", "accepted_cpu"),
    "null_model": ("null_model",),
    "many_rows": ("many_rows_cost", "many_rows_memory"),
    "tables": ("tables_upload", "tables_rate", "tables_memory"),
    "written": ("written_rules", "written_template"),
    "decoding": ("decoding_fp32", "decoding_bf16", "decoding_continuous", "shared_prefix", "labels", "labels_shared"),
    "writing": ("writing_whole", "structured", "structured_valid", "repeated"),
}
DECODING_SECONDS = 400.0
WRITING_SECONDS = 150.0
TABLES_SECONDS = 60.0
WRITTEN_SECONDS = 90.0
WRITING_ROWS, ALL_WRITING_ROWS = 96, 256
VALID_ANSWERS, ALL_VALID_ANSWERS = 100, 1_000
REPEATED, ALL_REPEATED = 20, 200
ENOUGH_TEXTS = 600  # with no difference among so many, 99.5 % holds at 95 % confidence (the rule of three)


@dataclass(slots=True)
class Options:
    """``full``: whole workloads and all turns, however long it takes; else each part keeps to its allowance. ``rows``: of the many rows.

    ``quick``: a few texts and rows of everything, once, to see that each part runs: its figures say nothing."""

    full: bool = False
    turns: int = 3
    rows: int = 200_000
    only: frozenset[str] = frozenset()
    quick: bool = False

    def sized(self, count: int) -> int:
        """So many, but in the quick form."""
        return min(count, QUICK) if self.quick else count

    def allowance(self, seconds: float) -> float:
        return float("inf") if self.full else seconds


@dataclass(slots=True)
class Suite:
    folder: Path
    options: Options
    say: Callable[[str], None]
    found: Findings = field(default_factory=Findings)

    def run(self) -> None:
        """With the real model, then without. Stacks are stopped in between: two at once would share what is measured."""
        with_model = ("end_to_end", "tiny_jobs", "sealing", "agreement", "interactive", "shapes")
        if self._wants(*with_model):
            with (
                self._failing(*with_model),
                running(self.folder / "mill", {}, calibrated=not self.options.quick) as mill,
                environment(TEXTMILL_HOME=str(mill.home)),
                BareLoop() as bare,
            ):
                end_to_end.measure_whole(mill, c3().take(self.options.sized(WARM_UP_TEXTS)))
                self._part("end_to_end", lambda: self._c3(mill, bare), "tiny_jobs", "sealing", of="C3")
                self._part("end_to_end", lambda: self._bare_and_whole(mill, bare, bbc(), "end_to_end_bbc", 75), of="BBC")
                self._part("end_to_end", lambda: self._bare_and_whole(mill, bare, c1(), "end_to_end_c1", 60), of="C1")
                self._part("agreement", lambda: self._agreement(bare))
                self._part("shapes", lambda: self._shapes(mill))
                self._part("interactive", lambda: self._interactive(mill))
        without_model = ("accepting", "null_model", "many_rows", "tables", "written")
        if self._wants(*without_model):
            with self._failing(*without_model), running(self.folder / "null", NULL_ENVIRONMENT) as mill:
                self._part("accepting", lambda: self._accepting(mill))
                self._part("null_model", lambda: self._null_model(mill))
                self._part("many_rows", lambda: self._many_rows(mill))
                self._part("tables", lambda: self._tables(mill))
                self._part("written", lambda: self._written(mill))
        self._part("sealing", self._store)
        self._part("decoding", self._decoding)
        if self._wants("writing"):
            made = NULL_ENVIRONMENT if self.options.quick else UNCALIBRATED
            with self._failing("writing"), running(self.folder / "writing", made, calibrated=False) as mill:
                self._part("writing", lambda: self._writing(mill))
        self._look_for_missing()

    def _wants(self, *names: str) -> bool:
        return not self.options.only or bool(self.options.only & set(names))

    def _part(self, name: str, run: Callable[[], None], *needed_by: str, of: str = "") -> None:
        """``needed_by``: other parts whose figures it brings too. ``of``: which of the part's workloads."""
        if not self._wants(name, *needed_by):
            return
        told = f"{name} {of}".strip()
        self.say(f"{told}:")
        with self._failing(told):
            run()

    @contextmanager
    def _failing(self, *names: str) -> Iterator[None]:
        """Whatever goes wrong in it, the table is printed, says which lines are missing, and the run fails."""
        try:
            yield
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            self.say(f"  failed: {why}")
            for name in names:
                if self._wants(name.split()[0]) or len(names) == 1:
                    self.found.failures.setdefault(name, why)

    def _look_for_missing(self) -> None:
        """A part that said nothing of a goal of its own has failed, however quietly."""
        for name, keys in PARTS.items():
            if not self._wants(name) or any(failed.split()[0] == name for failed in self.found.failures):
                continue
            figures = {key: self.found.figures.get(key) for key in keys}
            if missing := [key for key, figure in figures.items() if figure is None or math.isnan(figure.value)]:
                self.found.failures[name] = f"no figure came of {', '.join(missing)}"

    # With the real model

    def _c3(self, mill: Mill, bare: BareLoop) -> None:
        """C3 for three goals in the same turns: the bare loop, the whole way, the whole way without sealing, and C5's tiny jobs."""
        whole_workload = c3()
        workload = self._fitted(bare, whole_workload, C3_RUN_SECONDS)
        runs: dict[str, Callable[[], Run]] = {
            "bare": lambda: bare.measure(workload.texts, LABELS),
            "whole": lambda: end_to_end.measure_whole(mill, workload),
        }
        tenants = Tenants(mill, TENANTS)
        jobs = c5().first(max(JOB_ROWS, len(workload) * len(c5()) // len(whole_workload) // JOB_ROWS * JOB_ROWS))
        try:
            with ExitStack() as held:
                if self._wants("sealing"):
                    readable = held.enter_context(
                        running(self.folder / "open", SEALING_OFF, calibrated_in=mill.home, calibrated=not self.options.quick)
                    )
                    end_to_end.measure_whole(readable, workload.take(WARM_UP_TEXTS))
                    runs["sealing off"] = lambda: end_to_end.measure_whole(readable, workload)
                if self._wants("tiny_jobs"):
                    runs["tiny jobs"] = lambda: measure_tiny_jobs(mill, jobs, tenants.clients)
                done = self._in_turns(runs, C3_SECONDS)
        finally:
            tenants.close()
        self._enter("C3", done)
        self._end_to_end("end_to_end_c3", whole_workload, workload, done)
        if "tiny jobs" in done:
            self._tiny_jobs(done["whole"], done["tiny jobs"])

    def _fitted(self, bare: BareLoop, workload: Workload, seconds: float) -> Workload:
        if self.options.quick:
            return workload.take(QUICK)
        return end_to_end.fitted(bare, workload, whole=self.options.full, seconds=seconds)

    def _bare_and_whole(self, mill: Mill, bare: BareLoop, workload: Workload, key: str, seconds: float) -> None:
        part = self._fitted(bare, workload, seconds / RUNS_ALLOWED)
        runs: dict[str, Callable[[], Run]] = {
            "bare": lambda: bare.measure(part.texts, LABELS),
            "whole": lambda: end_to_end.measure_whole(mill, part),
        }
        done = self._in_turns(runs, seconds)
        self._enter(workload.name, done)
        self._end_to_end(key, workload, part, done)

    def _end_to_end(self, key: str, workload: Workload, part: Workload, done: dict[str, Series]) -> None:
        found = ratio(done["whole"], done["bare"])
        much = f"{len(part):,} of {len(workload):,} texts, " if len(part) < len(workload) else ""
        note = f"{much}{len(done['bare'].runs)} turns: {found}; {done['whole'].rate:,.0f} of {done['bare'].rate:,.0f} docs/s"
        self.found.figures[key] = Figure(found.value, f"{found.value:.3f}", note, _often(done["bare"]))

    def _tiny_jobs(self, whole: Series, tiny: Series) -> None:
        found = ratio(tiny, whole)
        jobs = statistics.median(float(str(run.parts["jobs_per_second"])) for run in tiny.runs)
        count = tiny.runs[0].parts["jobs"]
        note = f"{count:,} jobs, {found}; {tiny.rate:,.0f} docs/s, {jobs:,.0f} jobs/s, handed in over HTTP meanwhile"
        self.found.figures["tiny_jobs"] = Figure(found.value, f"{found.value:.2f}", note, _often(tiny))

    def _agreement(self, bare: BareLoop) -> None:
        """The whole corpus takes minutes in fp32 on a small machine: outside a full run, what fp32 does in half a minute or so."""
        corpus = bbc()
        part = corpus if self.options.full else corpus.take(int(max(200, self._rate("BBC", bare) * 10)))
        found = measure_agreement(bare, part.take(self.options.sized(len(part))).texts)
        note = f"{found.texts:,} of {len(corpus):,} articles, max |Δp| {found.max_difference:.4f}; {found.chosen} vs {found.exact}"
        self.found.figures["agreement"] = Figure(found.same, f"{found.same:.2%}", note, found.texts >= ENOUGH_TEXTS)
        self.found.details["agreement"] = asdict(found)

    def _rate(self, name: str, bare: BareLoop) -> float:
        known = self.found.details.get(name)
        if known is not None:
            return float(known["bare"]["docs_per_second"])
        return bare.measure(bbc().take(50).texts, LABELS).rate

    def _shapes(self, mill: Mill) -> None:
        cores = len(os.sched_getaffinity(0))
        bare = self.found.details.get("C3", {}).get("bare")
        tokens = SHAPE_SECONDS * C3_MEAN_TOKENS * bare["docs_per_second"] if bare and not self.options.full else float("inf")
        for make in (c2, c3, c4, c8):
            workload = make()
            workload = workload.take(QUICK) if self.options.quick else workload if tokens == float("inf") else workload.worth(tokens)
            found = shapes.measure_shape(mill, workload, cores)
            self.found.shape_rows.append(found.row(workload.name))
            self.found.details[f"shape {workload.name}"] = {**asdict(found), "run": Series([found.run]).as_dict()}
            self.say(f"  {'  '.join(found.row(workload.name))}")

    def _interactive(self, mill: Mill) -> None:
        felt = interactive.measure_interactive(quick=self.options.quick)
        p50, p99 = (interactive.percentile(felt.seconds, share) for share in (0.5, 0.99))
        enough = len(felt.seconds) >= ENOUGH_WAITS
        times = ", ".join(f"{name} {one * 1000:.0f} ms" for name, one in (("p50", p50), ("p99", p99), ("batch", felt.batch_seconds)))
        note = f"a class of its own; {len(felt.seconds)} documents, {times}"
        self.found.figures["interactive_p99"] = Figure(p99 / felt.batch_seconds, f"{p99 / felt.batch_seconds:.1f}", note, enough)
        note = f"{felt.bulk_beside:,.0f} of {felt.bulk_alone:,.0f} docs/s"
        self.found.figures["bulk_loss"] = Figure(felt.loss, f"{felt.loss:.1%}", note, enough)
        bulk, jobs = many("C7", self.options.sized(BULK_TEXTS)), 1 if self.options.quick else INTERACTIVE_JOBS
        taken = interactive.measure_through_the_api(mill, bulk, jobs, limit_seconds=25)
        if taken:
            shown = f"p50 {interactive.percentile(taken, 0.5):.2f} s, p99 {interactive.percentile(taken, 0.99):.2f} s ({len(taken)} jobs)"
            self.found.lines.append(("C7: an interactive job of one document beside bulk of the same tenant, upload to answer", shown))
        self.found.details["interactive"] = {**asdict(felt), "through_the_api_seconds": taken}

    # Without a model

    def _accepting(self, mill: Mill) -> None:
        lines = self.options.sized(accepting.LINES)
        accepting.measure_accepted(mill, self.options.sized(2_000))
        runs = [accepting.measure_accepted(mill, lines) for _ in range(self.options.turns)]
        seconds = statistics.median(run.seconds for run in runs)
        cpu = statistics.median(run.api_cpu_seconds for run in runs)
        spread = f"{min(run.seconds for run in runs):.2f}–{max(run.seconds for run in runs):.2f} s, {runs[0].megabytes:.0f} MB"
        self.found.figures["accepted_seconds"] = Figure(seconds, f"{seconds:.2f} s", spread)
        self.found.figures["accepted_cpu"] = Figure(cpu, f"{cpu:.2f} s", f"{cpu / lines * 1e6:.0f} µs a line")
        finished = accepting.measure_finished(mill, runs[-1].file_id, lines)
        peaks = ", ".join(f"{name} {peak / MEGABYTE:.0f}" for name, peak in finished.peak_bytes.items())
        shown = f"first result {finished.first_result_seconds:.2f} s, done {finished.seconds:.2f} s, peak MB {peaks}"
        self.found.lines.append((f"C6: job over {lines:,} rows, null model", shown))
        self.found.details["accepting"] = {"runs": [asdict(run) for run in runs], "job": asdict(finished)}

    def _null_model(self, mill: Mill) -> None:
        allowance = self.options.allowance(60)
        turns, rows = self.options.turns, QUICK if self.options.quick else None
        done = measure_null_model(mill, turns=turns, allowance_seconds=allowance, say=self.say, rows=rows)
        found = ratio(done["whole"], done["plain"])
        pool = done["plain"].runs[0].parts["pool"]
        note = f"{found}; {done['whole'].rate:,.0f} docs/s vs Celery's {done['plain'].rate:,.0f} tasks/s ({pool})"
        self.found.figures["null_model"] = Figure(found.value, f"{found.value:.1f}×", note, _often(done["plain"]))
        self._enter("null_model", done)

    def _many_rows(self, mill: Mill) -> None:
        rows = self.options.rows
        found = many_rows.measure_many_rows(mill, rows, few_rows=self.options.sized(many_rows.FEW_ROWS))
        per_row = [run.cpu_per_row * 1e6 for run in (*found.few, found.many)]
        note = f"{rows:,} rows, {per_row[-1]:.0f} µs of CPU a row vs {statistics.median(per_row[:-1]):.0f}; wall {found.wall_ratio:.2f}×"
        self.found.figures["many_rows_cost"] = Figure(found.cost_ratio, f"{found.cost_ratio:.2f}× ({rows:,})", note)
        told = ", ".join(f"{name} {grown / MEGABYTE:+.0f} MB" for name, grown in found.growth_bytes.items())
        most = max(found.growth_bytes.values()) / MEGABYTE
        self.found.figures["many_rows_memory"] = Figure(most, f"{most:+.0f} MB ({rows:,})", told)
        self.found.details["many_rows"] = {**Series([*found.few, found.many]).as_dict(), "growth_bytes": found.growth_bytes}

    def _tables(self, mill: Mill) -> None:
        count = self.options.sized(tables.UPLOADED_ROWS)
        tables.measure_upload(mill, count, all_columns=True)
        done = self._in_turns(
            {
                "text alone": lambda: tables.measure_upload(mill, count, all_columns=False),
                "all columns": lambda: tables.measure_upload(mill, count, all_columns=True),
            },
            TABLES_SECONDS,
        )
        found = ratio(done["all columns"], done["text alone"])
        note = f"{count:,} rows of nine columns, {done['all columns'].rate:,.0f} rows/s; {found}"
        self.found.figures["tables_upload"] = Figure(found.value, f"{found.value:.3f}", note, _often(done["text alone"]))
        self._enter("tables", done)
        joined = tables.measure_joined(mill, self.options.rows)
        note = f"{joined.rows:,} rows in {joined.seconds:.1f} s, {joined.size_bytes / MEGABYTE:.0f} MB"
        self.found.figures["tables_rate"] = Figure(joined.rate, f"{joined.rate:,.0f} rows/s", note)
        peak = joined.peak_bytes / MEGABYTE
        self.found.figures["tables_memory"] = Figure(peak, f"{peak:.0f} MB", f"all of the API, {joined.rows:,} rows")
        self.found.details["joined"] = asdict(joined)

    def _written(self, mill: Mill) -> None:
        count = self.options.sized(written.ROWS)
        written.store_definitions(mill)
        runs: dict[str, Callable[[], Run]] = {kind: partial(written.measure_written, mill, kind, count) for kind in written.KINDS}
        for run in [*runs.values()] * (0 if self.options.quick else written.WARM_UPS):
            run()
        done = self._in_turns(runs, WRITTEN_SECONDS)
        for kind in ("rules", "template"):
            found = ratio(done[kind], done["null"])
            note = f"{count:,} rows, {done[kind].rate:,.0f} rows/s vs {done['null'].rate:,.0f}; {found}"
            self.found.figures[f"written_{kind}"] = Figure(found.value, f"{found.value:.3f}", note, _often(done["null"]))
        self._enter("written", done)

    # A decoder alone

    def _decoding(self) -> None:
        """By CPU time: every engine runs on one thread, and what runs beside it slows them unlike."""
        engines = decoding.Engines(None if self.options.quick else self.folder, number_format="float32")
        count = decoding.ROWS if self.options.full else decoding.SOME_ROWS
        prompts = engines.ragged(2 if self.options.quick else count)
        others = {"fp32": engines.static("float32"), "bf16": engines.static("bfloat16"), "continuous": engines.continuous("bfloat16")}
        runs: dict[str, Callable[[], Run]] = {
            name: partial(decoding.measured, says, prompts) for name, says in {"ours": engines.ours, **others}.items()
        }
        done = self._in_turns(runs, DECODING_SECONDS)
        for name in others:
            found = ratio(done["ours"], done[name])
            same = decoding.agreeing(done["ours"].runs[0], done["fp32"].runs[0])
            note = f"{len(prompts.ids)} prompts, {prompts.tokens:,} tokens; by time {found}; {same} texts begin as fp32's"
            self.found.figures[f"decoding_{name}"] = Figure(found.by_cpu, f"{found.by_cpu:.2f}×", note, _often(done["ours"]))
        alike = engines.alike(2 if self.options.quick else decoding.SHARING_ROWS)
        shared = self._in_turns(
            {
                "shared": lambda: decoding.measured(lambda given: engines.ours(given, "one"), alike),
                "apart": lambda: decoding.measured(engines.ours, alike),
            },
            DECODING_SECONDS,
        )
        found = ratio(shared["shared"], shared["apart"])
        note = f"{len(alike.ids)} prompts that begin with the same {decoding.SHARED_TOKENS} tokens; by time {found}"
        self.found.figures["shared_prefix"] = Figure(found.by_cpu, f"{found.by_cpu:.2f}×", note, _often(shared["shared"]))
        self._enter("decoding", done)
        self._enter("shared prefix", shared)
        short = engines.ragged(len(alike.ids))
        labels = self._in_turns(
            {"scored": lambda: engines.label(short, "one"), "said": lambda: engines.say_labels(short, "one")}, DECODING_SECONDS
        )
        found = ratio(labels["scored"], labels["said"])
        note = f"{len(short.ids)} documents, {len(decoding.LABELS)} labels; by time {found}"
        self.found.figures["labels"] = Figure(found.by_cpu, f"{found.by_cpu:.2f}×", note, _often(labels["scored"]))
        behind = self._in_turns(
            {
                "scored": lambda: engines.label(alike, "one"),
                "said, shared": lambda: engines.say_labels(alike, "one"),
                "said, apart": lambda: engines.say_labels(alike),
            },
            DECODING_SECONDS,
        )
        found, sharing = ratio(behind["scored"], behind["said, apart"]), ratio(behind["scored"], behind["said, shared"])
        note = f"against prompts that are each read whole; against those that share too {sharing.by_cpu:.2f}×; by time {found}"
        self.found.figures["labels_shared"] = Figure(found.by_cpu, f"{found.by_cpu:.2f}×", note, _often(behind["scored"]))
        self._enter("labels", labels)
        self._enter("labels behind a shared prefix", behind)

    def _writing(self, mill: Mill) -> None:
        options = self.options
        model = "fake-decoder" if options.quick else decoding.MODEL
        asked = writing.prompts(options.sized(ALL_WRITING_ROWS if options.full else WRITING_ROWS))
        with environment(TEXTMILL_HOME=str(mill.home), **mill.settings), writing.bare(model) as decoder:
            writing.measure_whole(mill, model, asked[:QUICK])
            done = self._in_turns(
                {
                    "bare": lambda: writing.measure_bare(decoder, writing.plain(asked)),
                    "whole": lambda: writing.measure_whole(mill, model, asked),
                },
                WRITING_SECONDS,
            )
            self._enter("writing", done)
            found = ratio(done["whole"], done["bare"])
            note = f"{len(asked)} prompts, {done['bare'].runs[0].rows:,} tokens bare, {done['whole'].runs[0].rows:,} whole; {found}"
            self.found.figures["writing_whole"] = Figure(found.value, f"{found.value:.3f}", note, _often(done["bare"]))
            held = writing.structured(asked)
            free = writing.free(decoder, held)
            forms = self._in_turns(
                {
                    "free": lambda: writing.measure_bare(decoder, free),
                    "structured": lambda: writing.measure_bare(decoder, held),
                },
                WRITING_SECONDS,
            )
            self._enter("structured", forms)
            found = ratio(forms["structured"], forms["free"])
            self.found.figures["structured"] = Figure(found.value, f"{found.value:.3f}", f"{found}", _often(forms["free"]))
            valid = writing.validity(decoder, options.sized(ALL_VALID_ANSWERS if options.full else VALID_ANSWERS))
            share = valid.valid / valid.delivered if valid.delivered else math.nan
            failed = ", ".join(f"{count} {code}" for code, count in valid.failed.items()) or "none failed"
            self.found.figures["structured_valid"] = Figure(
                share, f"{share:.1%}", f"{valid.valid} of {valid.delivered} delivered; {failed}"
            )
            self.found.details["structured_valid"] = asdict(valid)
            count = options.sized(ALL_REPEATED if options.full else REPEATED)
            same = writing.repeated(decoder, count)
            self.found.figures["repeated"] = Figure(same, f"{same:.1%}", f"of {count}, {decoder.engine.model_version}")

    # The store alone

    def _store(self) -> None:
        found = measure_store(self.folder / "store", many("Q2", self.options.sized(STORE_ROWS)))
        shown = ", ".join(f"{name} {rate:,.0f}" for name, rate in found.rates.items())
        self.found.lines.append((f"Q2: store only, one thread, rows/s ({found.shards} shards)", shown))
        self.found.details["store"] = asdict(found)
        whole = self.found.details.get("C3")
        if whole is None:
            return
        per_document = 1 / whole["whole"]["docs_per_cpu_second"]
        share = found.spent_per_row / per_document
        spent = found.spent
        sealing, audit = (seconds / found.rows * 1e6 for seconds in (spent.sealing_seconds, spent.audit_seconds))
        note = f"timed calls: sealing {sealing:.1f} µs, audit {audit:.1f} µs of {per_document * 1e6:,.0f} µs of CPU a document"
        if "sealing off" in whole:
            on, off = whole["whole"], whole["sealing off"]
            note += f"; sealing off: {off['docs_per_second'] / on['docs_per_second']:.3f}× the docs/s, "
            note += f"{off['docs_per_cpu_second'] / on['docs_per_cpu_second']:.3f}× per CPU second"
        self.found.figures["sealing_cost"] = Figure(share, f"{share:.2%}", note)

    def _in_turns(self, runs: dict[str, Callable[[], Run]], seconds: float) -> dict[str, Series]:
        return in_turns(runs, turns=self.options.turns, allowance_seconds=self.options.allowance(seconds), say=self.say)

    def _enter(self, name: str, done: dict[str, Series]) -> None:
        self.found.details[name] = {kind: series.as_dict() for kind, series in done.items()}


def _often(series: Series) -> bool:
    return len(series.runs) >= ENOUGH_TURNS
