"""What may become of a batch and of its rows: what the code that runs one raises or answers, and what is reported of it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from workers.latencies import metric_of


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
class Spoken:
    """A row that a decoder has answered. ``cached_tokens``: of its prompt, those that were computed for another row.

    ``slot_seconds``: that it waited for its slot; ``first_seconds``: from when it came to its first token; ``next_seconds``: between two of
    its tokens, the mean. The last two are None where the engine cannot tell, or there is no second token."""

    work: Literal["interactive", "bulk"]
    ending: str
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    slot_seconds: float
    first_seconds: float | None
    next_seconds: float | None

    @property
    def times(self) -> "Counter[str]":
        """As a job's metrics count them."""
        times = Counter[str]()
        if self.first_seconds is not None:
            times[metric_of("first_token", self.first_seconds)] = 1
        if self.next_seconds is not None:
            times[metric_of("next_token", self.next_seconds)] = 1
        return times


@dataclass(frozen=True, slots=True)
class Load:
    """What a decoder has under way now. ``kv_tokens``: of which keys and values are held, by rows and as prefixes; None where a server has
    them. ``promised_tokens``: what the rows under way may come to; ``most_tokens``: what they may at most. ``waiting``: rows without a
    slot, by class; ``tenants``: of how many tenants; ``largest_share``: of all that waits, in tokens, the part of the one with the most;
    ``longest_seconds``: how long the row that came first has been waiting."""

    slots: int
    slots_in_use: int
    kv_tokens: int | None
    promised_tokens: int
    most_tokens: int
    waiting: Mapping[str, int]
    tenants: int
    largest_share: float
    longest_seconds: float


@dataclass(frozen=True, slots=True)
class BatchReport:
    """One batch that ran. `padding_tokens` is what was computed beyond the rows' own tokens; fill is (tokens + padding) / budget.
    ``spoken``: of a decoder's step, the rows that it ended with an answer."""

    rows: int
    tokens: int
    padding_tokens: int
    budget_tokens: int
    seconds: float
    lanes: int  # of the model in this process
    spoken: tuple[Spoken, ...] = ()


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
    limit_tokens: float = 0.0  # that written answers may have at most, all together
    times: Counter[str] = field(default_factory=Counter)  # rows by how long their tokens took: see workers.latencies

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
        self.limit_tokens += other.limit_tokens
        self.times += other.times

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
            "limit_tokens": self.limit_tokens,
            **self.times,
        }
