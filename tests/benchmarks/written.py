"""Rules and templates the whole way, against the null model over the same file: upload → seal → queue → answers → seal → results read."""

import io
import time
from typing import Final

from api.client import Upload
from tests.benchmarks.mill import NULL_MODEL, Mill, wait_ended
from tests.benchmarks.tables import rows
from tests.benchmarks.turns import Run

ROWS: Final = 20_000
WARM_UPS: Final = 2  # until the dispatcher sizes shards by what it measured
_RULES: Final = """
rules:
  - {name: late, when: {contains: [came late, never came], ignore_case: true}, label: late}
  - {name: dear, when: [{column: price, at_least: 5000}, {column: tier, equals: gold}], label: dear}
  - {name: abroad, when: {not: {column: country, in: [DE, AT, CH]}}, label: abroad}
  - {name: numbered, when: {regex: 'order \\d+'}, label: order}
default: {from_column: queue}
"""
_TEMPLATE: Final = """
text: ["{@greeting}, your case in {queue} was {opened|taken up} on {opened}. {@price}", "{@greeting}. We look into it. {@price}"]
parts:
  greeting: [Hello, {text: Good day, weight: 3}]
  price: {text: "It is about {price} euros.", when: {column: price, above: 100}}
"""
# What a job is asked for, by what answers it.
KINDS: Final[dict[str, tuple[str, dict[str, object]]]] = {
    "null": ("/v1/classifications", {"model": NULL_MODEL, "labels": ["late", "lost"]}),
    "rules": ("/v1/classifications", {"model": "rules:bench"}),
    "template": ("/v1/completions", {"model": "template:bench"}),
}


def store_definitions(mill: Mill) -> None:
    mill.client.put("/v1/rules/bench", {"source": _RULES})
    mill.client.put("/v1/templates/bench", {"source": _TEMPLATE})


def measure_written(mill: Mill, kind: str, count: int) -> Run:
    """From the first byte sent to the last result read."""
    endpoint, defaults = KINDS[kind]
    content = b"".join(rows(count, all_columns=True))
    used = mill.cpu_seconds()
    began = time.perf_counter()
    file = mill.client.upload(Upload(io.BytesIO(content), "tickets.csv", "rows", {}, len(content)))
    expected = mill.job_seconds.get((kind, count))
    asked = time.perf_counter()
    batch = wait_ended(mill.client, mill.client.create_batch(file.id, endpoint, defaults=defaults), expected_seconds=expected)
    mill.job_seconds[kind, count] = time.perf_counter() - asked
    came = sum(1 for _ in mill.client.lines(batch.output_file or ""))
    seconds = time.perf_counter() - began
    assert came == count, f"{came} of {count} rows came back"
    return Run(count, seconds, sum(mill.cpu_since(used).values()), {"job_seconds": mill.job_seconds[kind, count]})
