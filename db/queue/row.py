"""A row in work: one object from its opening to its storing."""

from collections.abc import Mapping
from typing import Any

import msgspec

from db.lifecycle import COMPLETED, FAILED


class WorkRow(msgspec.Struct, gc=False):
    """It enters with its sealed body opened, is read (``ask``: what its body asks for, the task's own object), answered, and stored.

    ``endpoint``: what its line named, None fits all. ``code``: why it failed (``code`` or ``code:field``), from its upload or met since;
    ``payload``: its answer. ``cost``: characters of it that the model sees at most. ``answers``: what the
    job's sources made of this row, in their order. Of a job that reads them, ``kept``: its cells as its table has them; ``columns``: the
    same by name, its text among them.
    """

    idx: int
    endpoint: str | None = None
    body: bytes | None = None
    code: str | None = None
    ask: Any = None
    cost: int = 0
    answers: tuple[bytes, ...] = ()
    payload: bytes | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    kept: bytes | None = None
    columns: Mapping[str, Any] | None = None

    @property
    def outcome(self) -> int:
        return COMPLETED if self.code is None else FAILED

    def complete(self, payload: bytes, input_tokens: int, output_tokens: int = 0) -> None:
        self.payload, self.input_tokens, self.output_tokens = payload, input_tokens, output_tokens

    def fail(self, code: str) -> None:
        """A failure holds no answer, and counts no tokens: whoever knows that it took some says so afterwards."""
        self.code, self.payload, self.input_tokens, self.output_tokens = code, None, 0, 0
