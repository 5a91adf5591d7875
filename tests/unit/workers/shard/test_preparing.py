"""What a job makes of its rows before its task reads them."""

from typing import Any
from uuid import UUID

import msgspec
import pytest

from db.actors import Lease
from db.files.table import Table
from db.queue.row import WorkRow
from db.queue.shards import Opened
from workers.content.prompts import Prompt
from workers.shard import preparing
from workers.shard.preparing import prepare
from workers.tasks import TASKS

CHAT, COMPLETE, RESPOND, CLASSIFY, EMBED = (
    *("/v1/chat/completions", "/v1/completions", "/v1/responses"),
    *("/v1/classifications", "/v1/embeddings"),
)
TASK_OF = {endpoint: task for task in TASKS.values() for endpoint in task.endpoints}
CSV = Table(form="cells", names=["name", "text", "Größe in cm"], text="text")
LINES = Table(form="fields", names=["text", "name", "tags"], text="text")


class Names:
    def __init__(self, prompt: Prompt | str) -> None:
        self._prompt = prompt

    def prompt(self, _address: str) -> Prompt | str:
        return self._prompt


def prepared(
    prompt: str | Prompt,
    rows: list[WorkRow],
    *,
    table: Table | None = CSV,
    endpoint: str = CHAT,
    spec: dict[str, Any] | None = None,
    reads_columns: bool = True,
) -> list[WorkRow]:
    task, nil = TASK_OF[endpoint], UUID(int=0)
    lease = Lease(nil, nil, nil, nil, 1, 0, len(rows), task.name, endpoint, None, None, reads_columns=reads_columns)
    names: Any = Names(prompt)
    return prepare(task, lease, Opened(spec or {"prompt": "shop"}, rows, table), names)


def cells(at: int, name: str | None = "shoe", size: str = "4", **body: object) -> WorkRow:
    return WorkRow(at, None, msgspec.json.encode({"input": "a text", **body}), kept=msgspec.json.encode([name, None, size]))


def bodies(rows: list[WorkRow]) -> list[Any]:
    return [row.code or msgspec.json.decode(row.body or b"") for row in rows]


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        (CHAT, {"messages": [{"role": "user", "content": "shoe: a text (4)"}]}),
        (RESPOND, {"input": [{"role": "user", "content": "shoe: a text (4)"}]}),
        (COMPLETE, {"prompt": "shoe: a text (4)"}),
        (CLASSIFY, {"input": "shoe: a text (4)"}),
        (EMBED, {"input": "shoe: a text (4)"}),
        ("/v1/moderations", {"input": "shoe: a text (4)"}),
    ],
)
def test_a_prompt_becomes_what_its_endpoint_reads(endpoint: str, body: dict[str, object]) -> None:
    prompt = Prompt("{{ name }}: {{ text }} ({{ Größe_in_cm }})")
    assert bodies(prepared(prompt, [cells(0)], endpoint=endpoint)) == [body]


def test_what_a_row_asks_for_beside_its_text_stays() -> None:
    row = cells(0, label="a", seed=3, max_tokens=5, messages=[{"role": "user", "content": "b"}], prompt="c")
    body = {"label": "a", "seed": 3, "max_tokens": 5, "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "shoe"}]}
    assert bodies(prepared(Prompt("system: s\nuser: '{{ name }}'"), [row])) == [body]


def test_a_row_that_cannot_be_filled_fails_alone_and_one_that_failed_or_was_skipped_is_left() -> None:
    defective, skipped = WorkRow(3, code="invalid_record"), WorkRow(4, body=b"{}", payload=b"skipped")
    rows = [cells(0), cells(1, size="big"), cells(2), defective, skipped]
    told = prepared(Prompt("{% if size > 0 %}{% endif %}{{ row['Größe in cm']|int // (row['Größe in cm']|int) }}"), rows)
    assert [row.code for row in told] == ["prompt_failed", "prompt_failed", "prompt_failed", "invalid_record", None]
    rows = [cells(0), cells(1, size="big"), cells(2), WorkRow(3, code="invalid_record"), skipped]
    told = prepared(Prompt("{{ 4 // Größe_in_cm|int }}"), rows)
    assert [row.code for row in told] == [None, "prompt_failed", None, "invalid_record", None]
    assert (skipped.payload, skipped.body) == (b"skipped", b"{}")


def test_a_cell_that_is_empty_or_missing_is_nothing() -> None:
    assert bodies(prepared(Prompt("[{{ name }}]"), [cells(0, name=None), cells(1, name="")], endpoint=EMBED)) == [{"input": "[]"}] * 2
    line = WorkRow(0, None, b'{"input":"a"}', kept=b'{"name":"b"}')
    assert bodies(prepared(Prompt("{{ name }}{{ text }}{{ tags }}"), [line], table=LINES, endpoint=EMBED)) == [{"input": "ba"}]


def test_fields_whose_type_changes_are_each_what_they_are() -> None:
    rows = [
        WorkRow(at, None, b'{"input":"a"}', kept=b'{"tags":%s}' % tags) for at, tags in enumerate((b"[1,2]", b'"x"', b"7", b'{"a":null}'))
    ]
    source = "{{ tags }}|{% if tags is sequence and tags is not string %}{{ tags|join('+') }}{% endif %}"
    told = bodies(prepared(Prompt(source), rows, table=LINES, endpoint=EMBED))
    assert [one["input"] for one in told] == ["[1, 2]|1+2", "x|", "7|", '{"a": null}|a']


def test_a_prompt_may_read_what_the_steps_before_said() -> None:
    spec = {"prompt": "shop", "sources": [{"name": "sort", "task": "classify"}]}
    row = cells(0)
    row.answers = (b'{"model":"m","label":"good","scores":{"good":0.9},"score":0.9}',)
    prompt = Prompt("{{ steps.sort.label }} {{ name }}")
    assert bodies(prepared(prompt, [row], spec=spec, endpoint=EMBED)) == [{"input": "good shoe"}]


def test_columns_that_are_gone_and_a_prompt_that_is_gone_fail_the_rows_by_a_code() -> None:
    assert bodies(prepared(Prompt("{{ name }}"), [cells(0)], table=None)) == ["sealed_value_damaged"]
    assert bodies(prepared(Prompt("{{ name }}"), [cells(0)], reads_columns=False)) == ["sealed_value_damaged"]
    assert bodies(prepared("version_gone", [cells(0)])) == ["version_gone"]


def test_a_fault_of_ours_in_one_row_fails_it_alone(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    whole = preparing.body_of

    def body_of(body: bytes, *given: Any) -> bytes:
        if b"canary" in body:
            raise ValueError(body)
        return whole(body, *given)

    monkeypatch.setattr(preparing, "body_of", body_of)
    told = prepared(Prompt("{{ name }}"), [cells(0), cells(1, label="canary"), cells(2)])
    assert [row.code for row in told] == [None, "engine_error", None]
    assert "ValueError" in caplog.text
    assert "canary" not in caplog.text


def test_half_a_character_fails_its_row_alone() -> None:
    told = prepared(Prompt("{% if Größe_in_cm == '5' %}{{ '\\ud83d' }}{% endif %}"), [cells(0), cells(1, size="5"), cells(2)])
    assert [row.code for row in told] == [None, "prompt_failed", None]


def test_five_thousand_columns_are_read_by_name() -> None:
    table = Table(form="cells", names=[f"c {at}" for at in range(5_000)], text="c 0")
    row = WorkRow(0, None, b'{"input":"a"}', kept=msgspec.json.encode([None, *(str(at) for at in range(1, 5_000))]))
    told = prepared(Prompt("{{ row['c 0'] }}{{ c_4999 }}{{ row|length }}"), [row], table=table, endpoint=EMBED)
    assert bodies(told) == [{"input": "a49995000"}]


def test_of_what_prompts_make_only_so_much_is_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "OPEN_BYTES", 110)
    source = "x" * 40
    assert [row.idx for row in prepared(Prompt(source), [cells(at) for at in range(5)], endpoint=EMBED)] == [0, 1]
    assert [row.idx for row in prepared(Prompt(source * 9), [cells(at) for at in range(5)], endpoint=EMBED)] == [0]
    rows = [cells(at) for at in range(5)]
    prepared(Prompt(source), rows, endpoint=EMBED)
    assert [row.idx for row in rows if b"xx" in (row.body or b"")] == [0, 1, 2]
