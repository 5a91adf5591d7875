"""The demo, from start to end. See the package for what it is."""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Final

from api.cli.terminal.exits import report
from api.cli.terminal.progress import Progress, Silent, show_progress
from api.cli.terminal.terminal import answer, shortened, shown
from api.cli.work.following import follow, say_why
from api.cli.work.outcomes import read_outcomes
from api.client import Client
from api.demo import stack as stacks
from api.demo.corpus import LABELS, Article, batch_lines, load_articles, phrases, split, training_lines
from api.demo.prompts import MAX_TOKENS, PROMPTS
from api.demo.scoring import Score, score
from api.demo.sealed import open_broker, read_sealed_body
from api.demo.searching import Search, search_files, search_redis
from api.demo.showing import Checks, show_table, title, upload
from api.demo.stack import Stack
from api.performance import mean_fill, padding_waste
from api.tables.outcome import Outcome
from api.wire import FileInfo
from db.errors import TextmillError
from db.settings import StoreSettings
from workers.models import registry
from workers.models.provision import ensure

if TYPE_CHECKING:
    from redis import Redis

ENCODER: Final = "minilm-l6-v2"
DECODER: Final = "gemma3-270m"
HEAD: Final = "bbc-demo"
EXAMPLES_PER_LABEL: Final = 50
SEED: Final = 0  # which examples are drawn; over 13 seeds the head reached 0.952 to 0.967, 0.960 on average
PHRASES: Final = 20
SAMPLES: Final = 10
LEAST_ZERO_SHOT: Final = 0.84  # what this encoder reaches with label names only; less means that something is broken
LEAST_HEAD: Final = 0.95
PIPELINE_SAMPLE: Final = 96  # texts that the plain pipeline is measured on: some four seconds


class WatchedQueue(Silent):
    """A job's progress; at every look at the job, a look at everything Redis holds."""

    def __init__(self, inner: Progress, redis: "Redis", wanted: list[bytes]) -> None:
        self._inner = inner
        self._redis = redis
        self._wanted = wanted
        self.looks = 0
        self.found = Search()

    def update(self, done: int, total: int | None, note: str = "", tokens: int = 0) -> None:
        self._inner.update(done, total, note, tokens)
        self.found.add(search_redis(self._redis, self._wanted))
        self.looks += 1


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m api.demo", description="Shows textmill at work on 2,225 news articles.")
    parser.add_argument("--keep", action="store_true", help="leave the stack up")
    keep = parser.parse_args(arguments).keep or os.environ.get("KEEP") == "1"
    stacks.own_environment()
    began = time.monotonic()
    try:
        articles = load_articles()
        title("Models")
        provisioned = subprocess.run([sys.executable, "-m", "workers.models.provision"], check=False)
        if provisioned.returncode != 0:
            raise TextmillError("The models could not be put in place; see above.", code="model_not_installed")
        title(f"How this machine runs {ENCODER}")
        command = [sys.executable, "-m", "api.cli", "calibrate", ENCODER, "--explain"]
        if subprocess.run(command, check=False).returncode != 0:  # noqa: S603 - our own words
            raise TextmillError("The encoder could not be calibrated; see above.", code="engine_not_available")
        title("Stack")
        stack = stacks.ensure()
        answer(f"  {'started' if stack.started else 'already up'}: API {stack.state.get('api')}, home {stack.home.path}")
        checks = Checks()
        try:
            demonstrate(stack, articles, checks)
        finally:
            if stack.started and not keep:
                stack.stop()
    except TextmillError as error:
        return report(error, as_json=False)
    except KeyboardInterrupt:
        return 130
    title(f"Done in {time.monotonic() - began:,.0f} s")
    if keep:
        answer(f"The stack is still up: {stack.flower or ''} · stop it with `textmill down`.")
    for what in checks.failed:
        answer(f"FAILED: {what}")
    return 1 if checks.failed else 0


def demonstrate(stack: Stack, articles: list[Article], checks: Checks) -> None:
    settings = StoreSettings()
    wanted = phrases(articles, PHRASES, SEED)
    with stack.connect() as client, open_broker(settings) as redis:
        file = label_all(client, articles, redis, wanted, checks, stack)
        show_secrecy(stack, settings, file, wanted, redis, checks)
        train_and_label(client, articles, checks)
        generate(client, checks)


def label_all(client: Client, articles: list[Article], redis: "Redis", wanted: list[bytes], checks: Checks, stack: Stack) -> FileInfo:
    title(f"{len(articles):,} articles, labelled by the names of the labels alone")
    body: dict[str, object] = {"model": ENCODER, "labels": list(LABELS)}
    file = upload(client, "bbc-news.jsonl", "batch", batch_lines(articles, body))
    began = time.monotonic()
    batch = client.create_batch(file.id, "/v1/classifications", metadata={"made by": "demo"})
    with show_progress("Labelling") as bar:
        watched = WatchedQueue(bar, redis, wanted)
        batch = follow(client, batch, watched)
    seconds = time.monotonic() - began
    say_why(batch)
    outcomes = list(read_outcomes(client, batch))
    judged = judge(articles, outcomes)
    metrics = batch.textmill.metrics or {}
    waste, fill = padding_waste(metrics), mean_fill(metrics)
    audited = sum(event.get("batch_id") == batch.id for event in client.pages("/v1/audit/events"))
    listed = stack.workers_in_flower()
    show_table(
        [
            ("rows in, rows out", f"{len(articles):,}, {len(outcomes):,}"),
            ("accuracy", f"{judged.accuracy:.4f}"),
            *((f"F1 {label}", f"{f1:.4f}") for label, f1 in judged.f1.items()),
            ("documents a second", f"{len(outcomes) / seconds:,.1f}  (from the job's creation to its end, {seconds:,.1f} s)"),
            ("tokens", f"{batch.usage.input_tokens:,}"),
            ("padding waste", "unknown" if waste is None else f"{waste:.2%}"),
            ("mean fill of a micro-batch", "unknown" if fill is None else f"{fill:.2%}"),
            ("audit events of this job", f"{audited:,}"),
            ("Flower", f"{stack.flower}  (user textmill, password in {stack.home.secrets / 'flower'})"),
            ("workers in Flower", ", ".join(listed) or "none"),
        ]
    )
    compare([article.text for article in articles], len(outcomes) / seconds)
    texts = {article.id: article for article in articles}
    for outcome in outcomes[:: max(1, len(outcomes) // SAMPLES)][:SAMPLES]:
        article = texts[outcome.id or ""]
        told = shown(outcome.values.get("label") or outcome.code)
        verdict = "right" if told == article.label else f"filed under {article.label}"
        answer(f"  {told:<14} {outcome.values.get('score') or 0:.2f}  {verdict:<25}  {shortened(article.text, 60)}")
    answer("")
    checks.expect(batch.status == "completed" and len(outcomes) == len(articles), f"{len(articles):,} rows in, {len(outcomes):,} out")
    checks.expect(judged.accuracy >= LEAST_ZERO_SHOT, f"zero-shot accuracy {judged.accuracy:.4f} ≥ {LEAST_ZERO_SHOT}")
    checks.expect(bool(listed), "Flower lists the worker")
    checks.expect(audited > 0, "the reads and writes are on record")
    checks.expect(
        watched.found.hits == 0,
        f"no text in Redis while the job ran: {watched.looks} looks, {watched.found.places:,} keys, {watched.found.size_bytes:,} bytes",
    )
    return file


def compare(texts: list[str], docs_per_second: float) -> None:
    """With what people usually build, measured here and now on some of the same texts."""
    sample = texts[:: max(1, len(texts) // PIPELINE_SAMPLE)][:PIPELINE_SAMPLE]
    folder = ensure(registry.get(ENCODER), StoreSettings().home)
    command = [sys.executable, "-m", "api.demo.plain_pipeline", str(folder)]
    done = subprocess.run(command, input=json.dumps(sample), capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    if done.returncode != 0:
        answer("  The plain transformers pipeline could not be measured here.")
        return
    plain = float(done.stdout)
    answer(f"  the plain transformers pipeline (fp32, batches of 32), on {len(sample)} of them: {plain:,.1f} documents a second")
    answer(f"  textmill, upload to sealed results: {docs_per_second / plain:.1f} times that")
    answer("")


def show_secrecy(stack: Stack, settings: StoreSettings, file: FileInfo, wanted: list[bytes], redis: "Redis", checks: Checks) -> None:
    title("The same articles, as Postgres and Redis hold them")
    sealed = read_sealed_body(settings, stack.key, file.id)
    answer(f"  the first row of the file, {len(sealed):,} bytes sealed: {sealed[:48].hex()}…")
    answer(f"  looking for {len(wanted)} phrases of the articles, such as “{shown(wanted[0].decode())}”")
    if settings.database_url is None:
        control = search_files(stack.home.postgres, [sealed[40:72]])
        checks.expect(control.hits > 0, f"the search works: it finds the sealed bytes of that row in {control.hits} places on disk")
        found = search_files(stack.home.postgres, wanted)
        checks.expect(
            found.hits == 0, f"no phrase in Postgres' folder: {found.places:,} files, {found.size_bytes / 1e6:,.0f} MB, WAL included"
        )
        rest = search_files(stack.home.path, wanted, skip=("postgres", "models"))
        checks.expect(rest.hits == 0, f"no phrase in logs, Valkey's folder or anything else of the home: {rest.places:,} files")
    else:
        answer("  Postgres runs elsewhere (TEXTMILL_DATABASE_URL): its files cannot be searched from here.")
    now = search_redis(redis, wanted)
    checks.expect(now.hits == 0, f"no phrase in Redis: {now.places:,} keys, {now.size_bytes:,} bytes")


def train_and_label(client: Client, articles: list[Article], checks: Checks) -> None:
    examples, rest = split(articles, EXAMPLES_PER_LABEL, SEED)
    title(f"A head, trained on {EXAMPLES_PER_LABEL} examples of each label")
    if any(head.name == HEAD for head in client.heads()):  # from a demo before
        client.delete("/v1/heads", HEAD)
    uploaded = upload(client, "bbc-examples.jsonl", "train", training_lines(examples))
    with show_progress("Training") as bar:
        trained = follow(client, client.train_head(HEAD, uploaded.id, model=ENCODER), bar)
    say_why(trained)
    head = next((one for one in client.heads() if one.name == HEAD), None)
    if head is None:
        checks.expect(False, "the head was trained")
        return
    file = upload(client, "bbc-rest.jsonl", "batch", batch_lines(rest, {"model": f"head:{HEAD}"}))
    with show_progress("Labelling") as bar:
        batch = follow(client, client.create_batch(file.id, "/v1/classifications"), bar)
    say_why(batch)
    judged = judge(rest, read_outcomes(client, batch))
    show_table(
        [
            ("examples", f"{len(examples):,}"),
            ("accuracy on them, each held out in turn", f"{head.metrics.accuracy:.4f}" if head.metrics is not None else "unknown"),
            (f"accuracy on the other {len(rest):,}", f"{judged.accuracy:.4f}"),
            *((f"F1 {label}", f"{f1:.4f}") for label, f1 in judged.f1.items()),
        ]
    )
    answer("")
    checks.expect(judged.accuracy >= LEAST_HEAD, f"accuracy of the head {judged.accuracy:.4f} ≥ {LEAST_HEAD}")


def generate(client: Client, checks: Checks) -> None:
    import msgspec

    title(f"{len(PROMPTS)} prompts, answered by {DECODER}")
    lines = (msgspec.json.encode({"id": f"prompt-{number:02}", "input": prompt}) + b"\n" for number, prompt in enumerate(PROMPTS))
    file = upload(client, "prompts.jsonl", "rows", lines)
    began = time.monotonic()
    defaults: dict[str, object] = {"model": DECODER, "max_tokens": MAX_TOKENS}
    with show_progress("Generating") as bar:
        batch = follow(client, client.create_batch(file.id, "/v1/chat/completions", defaults=defaults), bar)
    seconds = time.monotonic() - began
    say_why(batch)
    outcomes = list(read_outcomes(client, batch))
    texts = [str(outcome.values.get("text", "")) for outcome in outcomes]
    for prompt, text in islice(zip(PROMPTS, texts, strict=False), 3):
        answer(f"  > {prompt}")
        answer(f"    {shortened(text, 200)}")
    tokens = batch.usage.output_tokens
    answer(f"  {tokens:,} tokens in {seconds:,.1f} s, the loading of the model included")
    written = sum(bool(text.strip()) for text in texts)
    checks.expect(written == len(PROMPTS), f"{written} of {len(PROMPTS)} answers are not empty")


def judge(articles: Iterable[Article], outcomes: Iterable[Outcome]) -> Score:
    answered = {outcome.id or "": str(outcome.values["label"]) for outcome in outcomes if outcome.code is None}
    return score({article.id: article.label for article in articles}, answered, LABELS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
