"""How much of the bare model's speed is left when a document takes the whole way: upload → seal → queue → model → seal → results read.

`python -m tests.benchmarks.end_to_end [--quick] [--turns N] [--report FILE]` (or `make bench`). The bare loop and the whole way run in
turns on the same texts, with both models warm, in an own home that is removed afterwards; the ratio is that of the medians.
"""

import argparse
import io
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import cast

from api.client import Client, Upload
from api.demo import stack as stacks
from api.demo.corpus import LABELS, Article, batch_lines, load_articles
from tests.benchmarks.bare import ENCODER, BareLoop
from tests.benchmarks.machine import describe_machine
from tests.benchmarks.watching import cpu_seconds

GOAL = 0.85
QUICK_ARTICLES = 500
POLL_SECONDS = 0.25  # each look costs the API some 4 ms of CPU, which is the model's CPU here


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.end_to_end", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ARTICLES} articles, one turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--report", type=Path, default=Path("bench-report.json"))
    options = parser.parse_args(arguments)
    articles = load_articles()
    if options.quick:
        articles = articles[:: len(articles) // QUICK_ARTICLES][:QUICK_ARTICLES]
    turns = 1 if options.quick else options.turns
    stacks.own_environment()
    with tempfile.TemporaryDirectory(prefix="textmill-bench-", ignore_cleanup_errors=True) as home:
        os.environ["TEXTMILL_HOME"] = home
        stack = stacks.ensure()
        try:
            with BareLoop() as bare, stack.connect() as client:
                report = measure(bare, client, articles, turns, stack.children)
        finally:
            stack.stop()
    report = {"benchmark": "end_to_end", "machine": describe_machine(), "model": ENCODER, **report}
    options.report.write_text(json.dumps(report, indent=2) + "\n")
    print(
        f"bare {report['bare_docs_per_second']:.1f} docs/s · end to end {report['end_to_end_docs_per_second']:.1f} docs/s · "
        f"ratio {report['ratio']:.3f} (goal {GOAL}), by CPU time {report['cpu_ratio']:.3f} · {options.report}"
    )
    return 0 if options.quick or cast("float", report["ratio"]) >= GOAL else 1


def measure(bare: BareLoop, client: Client, articles: list[Article], turns: int, children: dict[str, int]) -> dict[str, object]:
    """The first turn of each warms up and is not counted."""
    texts = [article.text for article in articles]
    runs: dict[str, list[dict[str, object]]] = {"bare": [], "end_to_end": []}
    for turn in range(turns + 1):
        alone = bare.run(texts, LABELS)
        whole = run_whole(client, articles, children)
        for name, run in (("bare", alone), ("end_to_end", whole)):
            assert run["rows"] == len(articles), f"{name}: {run['rows']} of {len(articles)} rows came back"
            speed = len(articles) / cast("float", run["seconds"])
            print(f"{'warm-up' if turn == 0 else f'turn {turn}'}: {name} {speed:.1f} docs/s {_parts(run)}", flush=True)
            if turn:
                runs[name].append({"docs_per_second": speed, **run})
    medians = {name: statistics.median(cast("float", run["docs_per_second"]) for run in done) for name, done in runs.items()}
    spent = {name: statistics.median(_cpu_seconds(run) for run in done) for name, done in runs.items()}
    return {
        "articles": len(articles),
        "turns": turns,
        "bare_docs_per_second": medians["bare"],
        "end_to_end_docs_per_second": medians["end_to_end"],
        "ratio": medians["end_to_end"] / medians["bare"],
        "cpu_ratio": spent["bare"] / spent["end_to_end"],  # all processes of the stack counted; other work on the machine does not blur it
        "goal": GOAL,
        "runs": runs,
    }


def run_whole(client: Client, articles: list[Article], children: dict[str, int]) -> dict[str, object]:
    """Seconds from the first byte sent to the last result read."""
    lines = b"".join(batch_lines(articles, {"model": ENCODER, "labels": list(LABELS)}))
    used = cpu_seconds(children)
    began = time.perf_counter()
    file = client.upload(Upload(io.BytesIO(lines), "bench.jsonl", "batch", {}, len(lines)))
    uploaded = time.perf_counter()
    batch = client.create_batch(file.id, "/v1/classifications")
    while not batch.ended:
        time.sleep(POLL_SECONDS)
        batch = client.batch(batch.id)
    ended = time.perf_counter()
    rows = sum(1 for _ in client.lines(batch.output_file or ""))
    read = time.perf_counter()
    return {
        "seconds": read - began,
        "upload_seconds": uploaded - began,
        "job_seconds": ended - uploaded,
        "read_seconds": read - ended,
        "rows": rows,
        "cpu_seconds": {name: round(total - used.get(name, 0.0), 3) for name, total in cpu_seconds(children).items()},
        "metrics": batch.textmill.metrics if batch.textmill is not None else None,
    }


def _cpu_seconds(run: dict[str, object]) -> float:
    used = run["cpu_seconds"]
    return sum(used.values()) if isinstance(used, dict) else cast("float", used)


def _parts(run: dict[str, object]) -> str:
    parts = [
        f"{name.removesuffix('_seconds')} {run[name]:.2f} s" for name in ("upload_seconds", "job_seconds", "read_seconds") if name in run
    ]
    return f"({', '.join(parts)})" if parts else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
