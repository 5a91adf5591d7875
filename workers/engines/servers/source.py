"""Where a model's answers come from: its entry in the operator's file, the address, and what the server last told of itself."""

from dataclasses import replace
from urllib.parse import urlsplit

from workers.engines.contract.decoding import Generation
from workers.engines.servers.child import Child
from workers.engines.servers.line import Line
from workers.engines.servers.wire import Wire
from workers.models.server_entry import ServerEntry


class Source:
    """``child``: what runs the model, where this process started it; else a server at the entry's address does."""

    def __init__(self, entry: ServerEntry, child: Child | None = None) -> None:
        self.entry = entry
        self._child = child
        self._url = entry.url if child is None else child.url
        self._said_by = ""

    @property
    def version(self) -> str:
        """`ID@SERVER+MODEL+FINGERPRINT`; the last two are the server's own words."""
        parts = urlsplit(self._url)
        server = "vllm" if self._child is not None else parts.netloc or parts.path.rpartition("/")[2]
        return "+".join((f"{self.entry.id}@{server}", *([self._said_by] if self._said_by else [])))

    def wire(self) -> Wire:
        return Wire.open(self.entry, self._url)

    def said(self, said_by: str) -> None:
        self._said_by = said_by

    def signed(self, answer: Generation, said_by: str) -> Generation:
        self._said_by = said_by
        return replace(answer, model_version=self.version)

    def on_hang(self) -> None:
        if self._child is not None:
            self._child.restart()

    def end(self, line: Line) -> None:
        line.close()
        if self._child is not None:
            self._child.stop()
