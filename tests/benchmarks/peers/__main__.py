"""textmill against what else embeds and labels the same texts here: `python -m tests.benchmarks.peers` (or `make bench-peers`).

The first time it makes the peers' environments, some 4 GB under --venvs, which takes some minutes and needs a package index. Then all runs
offline, in turns, and ends by itself within --minutes. Exits with 0 whatever the goals' verdicts, for no build should fail by a peer's
speed; and with 1 where one that had to run did not, or none did.
"""

import argparse
import functools
import hashlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np

from api.demo import stack as stacks
from api.demo.corpus import LABELS, load_articles
from api.local.home.home import Home
from api.local.servers.valkey import EmbeddedValkey
from tests.benchmarks import decoding
from tests.benchmarks.guard import guarded
from tests.benchmarks.machine import describe_machine
from tests.benchmarks.mill import ENCODER, Mill, calibrate
from tests.benchmarks.peers import conversions, generation, roster
from tests.benchmarks.peers.company import Company, Member, Places
from tests.benchmarks.peers.ours import Ours
from tests.benchmarks.peers.protocol import PeerFailed, Run
from tests.benchmarks.peers.table import OURS, Row, as_json, goals, goals_table, markdown, not_run
from tests.benchmarks.peers.texts import Workload, sample, workloads
from tests.benchmarks.peers.turns import Contender, agreement, take_turns
from workers.arrays import Vectors
from workers.machine.cores import cores
from workers.machine.cpu import cpu_flags
from workers.models import provision, registry
from workers.models.zero_shot import TEMPLATES, prototypes, written

CALIBRATION_TEXTS: Final = 256
ANSWER_SECONDS: Final = 90.0
REFERENCE_SECONDS: Final = 600.0
OUR_SECONDS: Final = 30.0  # a job has a beginning and an end, which a short run would weigh too much
OUR_LOOK_DOCS: Final = 512
WORKLOADS: Final = ("C3", "C4", "null", "BBC")
NULL_MODEL: Final = "fake-encoder"
NULL_COPIES: Final = 5
SETTLE_SECONDS: Final = 1.0  # after a run: what a system does behind its answer is not the next one's to pay


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.peers", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--venvs", type=Path, default=Path("~/.cache/textmill-peers"), help="where the environments and converted models are kept"
    )
    parser.add_argument("--peers", help="only these, by name, with commas between them")
    parser.add_argument(
        "--workloads", help=f"of {', '.join((*WORKLOADS, *generation.ABOUT))}, with commas between them; by default what the peers are for"
    )
    parser.add_argument("--prompts", type=int, default=decoding.ROWS, help="of G1")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--run-seconds", type=float, default=8.0, help="a peer that needs longer for all texts runs a sample")
    parser.add_argument("--minutes", type=float, default=28.0, help="no run begins later than this after the start")
    parser.add_argument("--report", type=Path, default=Path("peers-report.json"), help="and beside it the same as markdown")
    options = parser.parse_args(arguments)
    try:
        specs = roster.chosen(options.peers.split(",") if options.peers else None)
    except ValueError as error:
        parser.error(str(error))
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that what was started is ended
    deadline = time.monotonic() + options.minutes * 60
    load_before = [round(load, 2) for load in os.getloadavg()]
    root = options.venvs.expanduser().absolute()
    stacks.own_environment()
    with tempfile.TemporaryDirectory(prefix="textmill-peers-", ignore_cleanup_errors=True) as work, guarded():
        bench = Bench(root, Path(work))
        asked = bool(options.peers)
        writing = [spec for spec in specs if spec.writes and (asked or not spec.asked_for)]
        labelling = [spec for spec in specs if not spec.writes]
        wanted = options.workloads.split(",") if options.workloads else default_workloads(bool(labelling), bool(writing))
        if unknown := set(wanted) - {*WORKLOADS, *generation.ABOUT}:
            parser.error(f"no such workload: {', '.join(sorted(unknown))}; there are {', '.join((*WORKLOADS, *generation.ABOUT))}")
        labelled = [name for name in wanted if name in WORKLOADS]
        written = [name for name in wanted if name in generation.ABOUT]
        valkey = EmbeddedValkey(bench.broker_home)
        valkey.start()
        try:
            assert valkey.child is not None
            with Company(bench.places, cores(), cpu_flags(), valkey.url) as company:
                os.environ |= {"TEXTMILL_HOME": str(Path(work) / "home"), "TEXTMILL_FAKE_ENGINE": "1"}
                if written:
                    bench.prepare_decoder()
                members = [company.prepare(spec, asked_for=asked) for spec in ((*labelling, roster.NULL_PEER) if labelled else ())]
                writers = [company.prepare(spec, asked_for=asked) for spec in (writing if written else ())]
                reference = bench.find_reference(company, labelled) if labelled else {}
                for model in (*((ENCODER,) if labelled else ()), *((decoding.MODEL,) if written else ())):
                    calibrate(model)
                stack = stacks.ensure()
                try:
                    with stack.connect() as client:
                        for member in members:
                            company.start(member)
                            print(f"{member.spec.name}: {member.reason or 'ready'}", flush=True)
                        measuring = Measuring(Ours(client, stack.children), company, members, valkey.child.pid, bench, deadline)
                        results = {
                            name: measuring.measure(name, reference.get(name), options.turns, options.run_seconds) for name in labelled
                        }
                        if written:
                            mill = Mill(Path(work) / "home", stack, client)
                            contenders = generation.writers(mill, company, writers, Path(work))
                            measure = functools.partial(
                                generation.measure, contenders, bench.places.decoder, turns=options.turns, deadline=deadline
                            )
                            results |= {name: measure(name, options.prompts) for name in written}
                finally:
                    stack.stop()
                members += writers
                versions = {member.spec.name: company.versions(member.spec.environment) for member in members if member.settings}
        finally:
            valkey.stop()
    report: dict[str, object] = {
        "benchmark": "peers",
        "machine": describe_machine(),
        "model": ENCODER,
        "load_before": load_before,
        "load_after": [round(load, 2) for load in os.getloadavg()],
        "idle_share": measuring.idle_share,
        "peers": {
            member.spec.name: {
                "requirements": list(member.spec.environment.requirements),
                "versions": versions.get(member.spec.name, {}),
                "settings": dict(member.settings),
            }
            for member in members
        },
    }
    judged = goals(
        results,
        cpu_flags(),
        engines=[spec.name for spec in roster.PEERS if spec.engine],
        padded_int8=[spec.name for spec in roster.PEERS if spec.padded_int8],
        null_peer=roster.CELERY_NULL,
        vllm=roster.VLLM_GENERATION,
        openvino=roster.OPENVINO_GENERATION,
        asked_for={spec.name: spec.asked_for for spec in roster.WRITERS if spec.asked_for},
    )
    options.report.write_text(json.dumps({**report, **as_json(results, judged)}, indent=2) + "\n")
    about = {name: workload.about for name, workload in bench.workloads.items()} | generation.ABOUT
    options.report.with_suffix(".md").write_text(markdown(report, results, judged, about))
    print(f"\n{goals_table(judged)}\n\n{options.report} · {options.report.with_suffix('.md')}")
    if failed := not_run(results, [member.spec.name for member in members if member.left_out]):
        print(f"not run, so this run failed: {'; '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def default_workloads(labelling: bool, writing: bool) -> list[str]:
    """What the peers are for: those that label, and those that write."""
    return [*(WORKLOADS if labelling else ()), *(generation.ABOUT if writing else ())]


class Bench:
    """What all runs share: the model, the workloads and the prototypes, as files that the peers read."""

    def __init__(self, root: Path, work: Path) -> None:
        cache = root / "models"
        cache.mkdir(parents=True, exist_ok=True)
        package = provision.ensure(registry.get(ENCODER), work)
        model = conversions.model_folder(package, cache)
        self.broker_home = work / "broker"
        Home(self.broker_home).prepare()
        decoder = root / "ours" / "models" / decoding.MODEL
        self.places = Places(root, cache, work, model, decoder, work / "calibration.json", work / "prototypes.json")
        made = workloads(model / "tokenizer.json")
        c3 = next(workload for workload in made if workload.id == "C3")
        numbered = tuple(f"{text} {copy}" for copy in range(NULL_COPIES) for text in c3.texts)  # a copy is no duplicate
        made.append(Workload("null", f"{len(numbered):,} texts of C3 and no model", numbered))
        self.workloads = {workload.id: workload for workload in made}
        for workload in made:
            self.file(workload.id).write_text(json.dumps(workload.texts))
        articles = load_articles()
        spread = articles[:: len(articles) // CALIBRATION_TEXTS][:CALIBRATION_TEXTS]
        self.places.calibration.write_text(json.dumps([article.text for article in spread]))

    def prepare_decoder(self) -> None:
        """Converted once, and linked into the stack's home; beside it the one in OpenVINO's own form, where that is made."""
        provision.ensure(registry.get(decoding.MODEL), self.places.decoder.parent.parent)
        home = Home(self.places.work / "home")
        home.prepare()
        home.models.mkdir(exist_ok=True)
        (home.models / decoding.MODEL).symlink_to(self.places.decoder)
        os.environ["TEXTMILL_MODEL_FOLDERS"] = str(self.places.cache)

    def file(self, workload: str) -> Path:
        return self.places.work / f"{workload}.json"

    def find_reference(self, company: Company, wanted: Sequence[str]) -> dict[str, list[int]]:
        """fp32's prototypes, written where the peers find them, and its label of every text. Both are kept for the next time. Raises
        PeerFailed: without them nothing can be compared."""
        sentences = self.places.work / "sentences.json"
        sentences.write_text(json.dumps(written(LABELS, TEMPLATES)))
        files = {"prototypes": sentences} | {name: self.file(name) for name in wanted if name != "null"}
        kept = {name: self.places.cache / f"fp32-{_digest(self.places.model, sentences, file)}.json" for name, file in files.items()}
        missing = {name: file for name, file in files.items() if not kept[name].exists()}
        if missing:
            with self._reference(company) as embed:
                for name, file in missing.items():  # the prototypes are first
                    vectors = embed(file)
                    if name == "prototypes":
                        found: object = prototypes(vectors, len(TEMPLATES)).tolist()
                    else:
                        found = (vectors @ np.array(json.loads(kept["prototypes"].read_text()), np.float32).T).argmax(1).tolist()
                    kept[name].write_text(json.dumps(found))
                    print(f"fp32 reference: {name}", flush=True)
        self.places.prototypes.write_text(kept["prototypes"].read_text())
        return {name: json.loads(kept[name].read_text()) for name in files if name != "prototypes"}

    @contextmanager
    def _reference(self, company: Company) -> Iterator[Callable[[Path], Vectors]]:
        """A function from a file of texts to [n, d]."""
        reasons = []
        for spec in roster.REFERENCES:
            member = company.prepare(spec)
            company.start(member, prototypes=False)
            if (peer := member.peer) is not None:
                break
            reasons.append(member.reason)
        else:
            raise PeerFailed(f"no fp32 reference runs: {reasons}")

        def embed(file: Path) -> Vectors:
            vectors = self.places.work / "vectors.npy"
            rows = range(len(json.loads(file.read_text())))
            peer.run(file, self.places.prototypes, rows, timeout_seconds=REFERENCE_SECONDS, others={}, vectors=vectors)
            loaded: Vectors = np.load(vectors)
            return loaded

        yield embed
        company.drop(member, "its part is done")


def _digest(model: Path, *files: Path) -> str:
    """Of what the reference's answer depends on."""
    digest = hashlib.sha256(registry.get(ENCODER).files["model.safetensors"].encode())
    for file in (model / "tokenizer.json", *files):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


class Measuring:
    """Runs a workload over ours and everybody who is still there."""

    def __init__(self, ours: Ours, company: Company, members: Sequence[Member], broker: int, bench: Bench, deadline: float) -> None:
        self._ours = ours
        self._company = company
        self._members = members
        self._broker = broker
        self._bench = bench
        self._deadline = deadline
        self._idle = [0.0, 0.0]  # CPU-seconds that our stack used while peers ran, and for how many seconds they did

    @property
    def idle_share(self) -> float:
        """Of one core."""
        return self._idle[0] / self._idle[1] if self._idle[1] else 0.0

    def measure(self, workload: str, reference: Sequence[int] | None, turns: int, run_seconds: float) -> list[Row]:
        texts = self._bench.workloads[workload].texts
        null = workload == "null"
        model = NULL_MODEL if null else ENCODER
        # Not looked at: the first run of all waits until the model is loaded, and a workload's first is cut into shards by a guess.
        self._whole_system(texts, model, sample(texts, OUR_LOOK_DOCS))
        contenders = [Contender(OURS, "the whole system", functools.partial(self._whole_system, texts, model), OUR_SECONDS, OUR_LOOK_DOCS)]
        for member in self._members:
            if (member.spec is roster.NULL_PEER) == null:
                contenders.append(
                    Contender(
                        member.spec.name,
                        member.spec.about,
                        functools.partial(self._run, member, workload),
                        reason=member.reason,
                    )
                )
        by_name = {member.spec.name: member for member in self._members}

        def dropped(one: Contender) -> None:
            if one.name in by_name:
                self._company.drop(by_name[one.name], one.reason or "it failed")

        take_turns(
            contenders,
            texts,
            turns=turns,
            run_seconds=run_seconds,
            deadline=self._deadline,
            told=lambda line: print(f"{workload} {line}", flush=True),
            dropped=dropped,
        )
        return [_row(one, len(texts), reference, by_name.get(one.name)) for one in contenders]

    def _whole_system(self, texts: Sequence[str], model: str, rows: Sequence[int]) -> Run:
        return self._settled(self._ours.run([texts[row] for row in rows], model))

    def _run(self, member: Member, workload: str, rows: Sequence[int]) -> Run:
        if member.peer is None:
            raise PeerFailed(member.reason or "it does not run")
        others = {"broker": self._broker} if member.spec.broker else {}
        used, began = self._ours.cpu_seconds(), time.perf_counter()
        run = member.peer.run(
            self._bench.file(workload), self._bench.places.prototypes, rows, timeout_seconds=ANSWER_SECONDS, others=others
        )
        self._idle[0] += self._ours.cpu_seconds() - used
        self._idle[1] += time.perf_counter() - began
        return self._settled(run)

    def _settled(self, run: Run) -> Run:
        time.sleep(SETTLE_SECONDS)
        return run


def _row(one: Contender, count: int, reference: Sequence[int] | None, member: Member | None) -> Row:
    if not one.runs:
        return Row(one.name, one.about, count, reason=one.reason)
    return Row(
        one.name,
        one.about,
        count,
        docs=len(one.rows),
        docs_per_second=one.median,
        least=min(one.speeds),
        most=max(one.speeds),
        docs_per_cpu_second=one.docs_per_cpu_second if member is None or member.spec.cpu_counted else None,
        runs=len(one.runs),
        agreement=agreement(one.runs[0], one.rows, reference) if reference is not None else None,
        reason=one.reason,
    )


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except PeerFailed as error:  # the reference, without which nothing is compared
        sys.exit(f"not run, so this run failed: {error}")
