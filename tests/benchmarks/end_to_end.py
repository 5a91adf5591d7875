"""A job the whole way: upload → seal → queue → model → seal → results read. And how much of the bare loop's speed is left of it."""

import io
import time
from collections.abc import Mapping, Sequence

from api.client import Client, Upload
from api.demo.corpus import LABELS, Article, batch_lines
from tests.benchmarks.bare import BareLoop
from tests.benchmarks.mill import ENCODER, Mill, wait_ended
from tests.benchmarks.turns import Run
from tests.benchmarks.watching import cpu_seconds
from tests.benchmarks.workloads import Workload


def run_whole(
    client: Client,
    articles: Sequence[Article],
    children: dict[str, int],
    model: str = ENCODER,
    *,
    expected_seconds: float | None = None,
) -> dict[str, object]:
    """Seconds from the first byte sent to the last result read. ``expected_seconds``: of the job, where one like it ran before."""
    lines = b"".join(batch_lines(articles, {"model": model, "labels": list(LABELS)}))
    used = cpu_seconds(children)
    began = time.perf_counter()
    file = client.upload(Upload(io.BytesIO(lines), "bench.jsonl", "batch", {}, len(lines)))
    uploaded = time.perf_counter()
    batch = wait_ended(client, client.create_batch(file.id, "/v1/classifications"), expected_seconds=expected_seconds)
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
        "metrics": batch.textmill.metrics,
    }


def measure_whole(mill: Mill, workload: Workload, model: str = ENCODER) -> Run:
    kind = (workload.name, len(workload))
    run = run_whole(mill.client, workload.articles, mill.children, model, expected_seconds=mill.job_seconds.get(kind))
    mill.job_seconds[kind] = float(str(run["job_seconds"]))
    assert run["rows"] == len(workload), f"{run['rows']} of {len(workload)} rows came back"
    spent = run["cpu_seconds"]
    assert isinstance(spent, Mapping)
    parts = {name: run[name] for name in ("upload_seconds", "job_seconds", "read_seconds", "metrics")}
    return Run(len(workload), float(str(run["seconds"])), sum(spent.values()), {**parts, "cpu_by_part": spent})


def fitted(bare: BareLoop, workload: Workload, *, whole: bool, seconds: float) -> Workload:
    """Tunes the bare loop to the workload and says how much of it is run: all, or what the loop does in ``seconds``."""
    sample = workload.take(max(64, len(workload) // 40))
    first = bare.tune(sample.texts, LABELS)
    return workload if whole else workload.take(int(first.rate * seconds))
