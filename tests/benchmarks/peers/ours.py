"""The same texts the whole way through textmill: upload → seal → queue → model → seal → results read and their labels taken out."""

import io
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from api.client import Client, Upload
from api.demo.corpus import LABELS, Article, batch_lines
from tests.benchmarks.mill import wait_ended
from tests.benchmarks.peers.protocol import PeerFailed, Run
from tests.benchmarks.watching import cpu_seconds

NO_LABEL: Final = -1


class _Body(msgspec.Struct):
    label: str | None = None


class _Response(msgspec.Struct):
    body: _Body


class _Line(msgspec.Struct):
    custom_id: str
    response: _Response | None = None


class Ours:
    """A started stack: ``children`` are its processes by name, all of which are counted."""

    def __init__(self, client: Client, children: Mapping[str, int]) -> None:
        self._client = client
        self._children = children
        self._job_seconds: dict[tuple[str, int], float] = {}  # of the last job, by model and number of rows

    def cpu_seconds(self) -> float:
        return sum(cpu_seconds(self._children).values())

    def run(self, texts: Sequence[str], model: str) -> Run:
        """From the first byte sent to the last label read. Raises PeerFailed where rows are missing."""
        articles = [Article(str(row), "", text) for row, text in enumerate(texts)]
        lines = b"".join(batch_lines(articles, {"model": model, "labels": list(LABELS)}))
        used = self.cpu_seconds()
        began = time.perf_counter()
        file = self._client.upload(Upload(io.BytesIO(lines), "bench.jsonl", "batch", {}, len(lines)))
        created, kind = time.perf_counter(), (model, len(texts))
        batch = self._client.create_batch(file.id, "/v1/classifications")
        batch = wait_ended(self._client, batch, expected_seconds=self._job_seconds.get(kind))
        self._job_seconds[kind] = time.perf_counter() - created
        labels = labels_of(self._client.lines(batch.output_file) if batch.output_file else (), len(texts))
        seconds = time.perf_counter() - began
        if NO_LABEL in labels:
            raise PeerFailed(f"{labels.count(NO_LABEL)} of {len(texts)} rows came back without a label")
        return Run(seconds, self.cpu_seconds() - used, labels)


def labels_of(lines: Iterable[bytes], count: int) -> tuple[int, ...]:
    """Index of each row's label, by custom id, which is the row's number; NO_LABEL where a line or its label is missing."""
    labels = [NO_LABEL] * count
    index = {label: number for number, label in enumerate(LABELS)}
    decoder = msgspec.json.Decoder(_Line)
    for raw in lines:
        line = decoder.decode(raw)
        if line.response is not None and line.response.body.label is not None:
            labels[int(line.custom_id)] = index[line.response.body.label]
    return tuple(labels)
