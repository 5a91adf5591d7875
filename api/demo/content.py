"""`make demo-content`: a shop's table goes in and comes back with texts, through one chain of three steps. Rules say which product gets one
and for whom; a decoder writes it as JSON, without having read what names people, and checked; an encoder says how it sounds.
"""

import csv
import io
import json
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any, Final

from api.cli.terminal.exits import report
from api.cli.terminal.progress import show_progress
from api.cli.terminal.terminal import answer, shortened, shown
from api.cli.work.following import follow, say_why
from api.client import Client, segment
from api.demo import stack as stacks
from api.demo.products import COLUMNS, COUNT, as_csv, products, reachable
from api.demo.showing import Checks, show_table, title, upload
from api.wire import Batch
from db.errors import TextmillError

DECODER: Final = "gemma3-270m"
ENCODER: Final = "minilm-l6-v2"
SHOWN: Final = 4
RULES: Final = """\
rules:
  - name: sold-out
    when: {column: stock, at_most: 0}
    label: none
  - name: dear
    when: {column: price, at_least: 49}
    label: connoisseurs
default: {label: everybody}
tests:
  - row: {stock: "0", price: "249.90"}
    answer: none
  - row: {stock: "3", price: "249.90"}
    answer: connoisseurs
  - row: {stock: "3", price: "9.90"}
    answer: everybody
"""
PROMPT: Final = """\
system: You write for a shop. Answer with a JSON object that has a title and a text of one or two sentences.
user: |
  Product: {{ product }}, made of {{ material }}
  Written for: {{ steps.audience.label }}
  Notes: {{ notes }}
"""
SCHEMA: Final = {
    "type": "object",
    "properties": {"title": {"type": "string", "maxLength": 60}, "text": {"type": "string", "minLength": 20, "maxLength": 240}},
    "required": ["title", "text"],
    "additionalProperties": False,
}
STEPS: Final[list[dict[str, Any]]] = [
    {"name": "audience", "endpoint": "/v1/classifications", "defaults": {"model": "rules:demo-audience"}},
    {
        "name": "text",
        "endpoint": "/v1/chat/completions",
        "when": {"label": ["everybody", "connoisseurs"]},
        "prompt": "demo-product",
        "defaults": {
            "model": DECODER,
            "max_tokens": 120,
            "temperature": 0.7,
            "seed": 1,
            "response_format": {"type": "json_schema", "json_schema": {"name": "product", "schema": SCHEMA}},
        },
        "checks": [
            {"check": "length", "unit": "words", "max": 60},
            {"check": "forbidden", "words": ["free", "guaranteed", "shipping"]},
            {"check": "regex", "pattern": r"\[(EMAIL|PHONE):", "found": False},  # a mask is nothing to publish
        ],
        "tries": 3,
    },
    {"name": "tone", "endpoint": "/v1/classifications", "defaults": {"model": ENCODER, "labels": ["factual", "enthusiastic"]}},
]


def main() -> int:
    stacks.own_environment()
    began = time.monotonic()
    checks = Checks()
    try:
        for model in (DECODER, ENCODER):
            if subprocess.run([sys.executable, "-m", "workers.models.provision", model], check=False).returncode != 0:  # noqa: S603 - our own words
                raise TextmillError("The models could not be put in place; see above.", code="model_not_installed")
        title("Stack")
        stack = stacks.ensure()
        answer(f"  {'started' if stack.started else 'already up'}: API {stack.state.get('api')}, home {stack.home.path}")
        try:
            with stack.connect() as client:
                demonstrate(client, checks)
        finally:
            if stack.started:
                stack.stop()
    except TextmillError as error:
        return report(error, as_json=False)
    except KeyboardInterrupt:
        return 130
    title(f"Done in {time.monotonic() - began:,.0f} s")
    for what in checks.failed:
        answer(f"FAILED: {what}")
    return 1 if checks.failed else 0


def demonstrate(client: Client, checks: Checks) -> None:
    rows = products()
    title(f"{COUNT} products, of which nobody has written a text")
    answer(f"  {', '.join(COLUMNS)}")
    for row in rows[:SHOWN]:
        answer(f"  {shortened(', '.join(row.values()), 110)}")
    client.put("/v1/rules/demo-audience", {"source": RULES})
    client.put("/v1/prompts/demo-product", {"source": PROMPT})
    file = upload(client, "products.csv", "rows", [as_csv(rows)], text_column="product")
    title("One chain: rules → texts as JSON, masked, checked, three tries → their tone")
    request: dict[str, object] = {"input_file_id": file.id, "completion_window": "24h", "redact": {}, "steps": STEPS}
    with show_progress("Running") as bar:
        batch = follow(client, client.batch(str(client.post("/v1/batches", request)["id"])), bar)
    say_why(batch)
    steps = {str(step["name"]): step for step in client.get(f"/v1/batches/{segment(batch.id)}")["textmill"]["steps"]}  # type: ignore[index]
    show_table([(name, f"{step['status']}, {json.dumps(step['request_counts'])}") for name, step in steps.items()])
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "texts.csv"
        run("results", batch.id, "-o", str(out))
        table = list(csv.DictReader(io.StringIO(out.read_text())))
    title("The table, with its own columns in front")
    answer(f"  {', '.join(table[0])}")
    written = [row for row in table if row["text"]]
    for row in islice(written, SHOWN):
        answer(f"  {row['sku']}  {shortened(row['text'], 100)}")
    check(client, batch, rows, table, written, checks)
    title("The story of one row")
    number = next((place for place, row in enumerate(table, 1) if row["text"]), 1)
    for line in run("jobs", "show", batch.id, "--row", str(number)).splitlines():
        answer(f"  {shown(line)}")


def check(client: Client, batch: Batch, rows: list[dict[str, str]], table: list[dict[str, str]], written: Any, checks: Checks) -> None:
    wanted = sum(row["stock"] != "0" for row in rows)
    answer("")
    checks.expect(batch.status == "completed" and len(table) == COUNT, f"{COUNT} rows in, {len(table)} out")
    checks.expect([{name: row[name] for name in COLUMNS} for row in table] == rows, "the columns are there as they came, in their order")
    texts = [json.loads(row["text"]) for row in written]
    whole = sum(set(text) == {"title", "text"} for text in texts)
    checks.expect(
        whole == len(texts) > 0, f"{len(texts)} of {wanted} texts that were wanted passed their checks, each of them JSON by its schema"
    )
    checks.expect(all(row["stock"] != "0" for row in written), "none was written for what is sold out")
    said = " ".join(row["text"] for row in table).encode()
    checks.expect(not any(value in said for value in reachable(rows)), "no address and no number of the notes is in a text")
    read = sum(event.get("batch_id") == batch.id for event in client.pages("/v1/audit/events"))
    checks.expect(read > 0, f"what was read and written is on record: {read} events of the last step")


def run(*words: str) -> str:
    """A command, as a person would give it. Returns what it answers."""
    answer(f"  $ textmill {' '.join(words)}")
    done = subprocess.run([sys.executable, "-m", "api.cli", *words], capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    if done.returncode not in (0, 1):
        raise TextmillError(f"The command ended with {done.returncode}: {shown(done.stderr[-200:])}", code="demo_failed")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
