"""What may become of a batch and of its rows: what the code that runs one raises or answers, and what is reported of it."""

from dataclasses import dataclass


class OutOfMemory(Exception):
    """The batch did not fit the device. The batcher runs it again in halves; carries no content."""


class EngineBroken(Exception):
    """The device is lost for this process (a sticky CUDA error). No row is to blame: release the shard and end the process."""


class EngineAway(Exception):
    """What runs the model is away: a server, or a child of this process. No row is to blame: release the shard, for after ``seconds``."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds


class RowsRefused(Exception):
    """Some row of the batch cannot be done, by ``code``: the batch is halved until that one stands alone."""

    def __init__(self, code: str) -> None:
        super().__init__()
        self.code = code


class Stopped(Exception):
    """The caller's stop event was set, or the batcher was closed without draining, before all of the call's rows had run."""


@dataclass(frozen=True, slots=True)
class FailedRow:
    """A row that could not be done; `code` is one of the failure codes of the store."""

    code: str


@dataclass(frozen=True, slots=True)
class BatchReport:
    """One batch that ran. `padding_tokens` is what was computed beyond the rows' own tokens; fill is (tokens + padding) / budget."""

    rows: int
    tokens: int
    padding_tokens: int
    budget_tokens: int
    seconds: float
    lanes: int  # of the model in this process


@dataclass(slots=True)
class BatchShare:
    """A call's part of the batches it was in, by its share of their tokens. `batches` sums to the number of batches over all calls."""

    tokens: float = 0.0
    padding_tokens: float = 0.0
    budget_tokens: float = 0.0
    batches: float = 0.0
    model_seconds: float = 0.0  # of the lane; over all calls the time in which lanes were busy
    duplicate_rows: float = 0.0  # answered without a batch, because the same text of the same job had been
    truncated_rows: float = 0.0  # answered by their beginning: the text is longer than the model reads
    unlike_rows: float = 0.0  # answered though the text is near none of its labels
    foreign_rows: float = 0.0  # answered though the text is in a language that the model was not trained on
    cached_tokens: float = 0.0  # of prompts, that were computed for other rows

    def add(self, other: "BatchShare") -> None:
        self.tokens += other.tokens
        self.padding_tokens += other.padding_tokens
        self.budget_tokens += other.budget_tokens
        self.batches += other.batches
        self.model_seconds += other.model_seconds
        self.duplicate_rows += other.duplicate_rows
        self.truncated_rows += other.truncated_rows
        self.unlike_rows += other.unlike_rows
        self.foreign_rows += other.foreign_rows
        self.cached_tokens += other.cached_tokens

    def as_dict(self) -> dict[str, float]:
        return {
            "tokens": self.tokens,
            "padding_tokens": self.padding_tokens,
            "budget_tokens": self.budget_tokens,
            "batches": self.batches,
            "duplicate_rows": self.duplicate_rows,
            "truncated_rows": self.truncated_rows,
            "unlike_rows": self.unlike_rows,
            "foreign_rows": self.foreign_rows,
            "cached_tokens": self.cached_tokens,
        }
