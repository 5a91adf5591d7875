"""What a decoder engine is: rows join and leave at every step, and each comes back when it has ended.

A lane is a thread that drives one set of **slots**: it adds rows while there is room, and steps. It knows nothing of tenants, jobs or files
but that what a row's prompt shares with another's may be computed once only where both name the same ``tenant``.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from workers.arrays import Ids
from workers.batches.outcomes import FailedRow
from workers.engines.contract.choices import Choices, Scored
from workers.engines.contract.engine import Engine
from workers.engines.contract.generation import GenerateRequest, Message, Sampling
from workers.grammars.masks import Vocabulary

Ending = Literal["stop", "length"]


class Mask(Protocol):
    """What a grammar lets a row say next. Called by the row's lane alone, `fill` before each token and `take` after it."""

    def fill(self, bits: NDArray[np.int32]) -> bool:
        """Sets bit i % 32 of ``bits[i // 32]``, which are all zero, for each token i that may follow; the end tokens' where the answer may
        end. False: any token may follow, and the bits are not read."""

    def take(self, token: int) -> bool:
        """The token that was said, which `fill` allowed. True: the answer is complete and ends here, as by an end token."""


class TokenLogprob(NamedTuple):
    """A token that was said and its logprob, and the likeliest ``top`` in its place: of the distribution that it was drawn from, before
    temperature and cuts."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(slots=True, eq=False)
class DecoderRow:
    """A prompt on its way through an engine; two rows are never the same. ``ids`` and ``max_tokens``, of new ones: at least one each.

    ``tenant``: rows of one may share what their prompts have in common; of None, none do. ``asked``: for an engine whose server
    tokenises. ``first_token_at``: set by the engine in the step that said it, by time.perf_counter; it stays None where an engine cannot
    tell. ``choices``: they are scored behind the prompt, and nothing is said.
    """

    ids: Ids
    max_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    stop: tuple[str, ...] = ()
    is_chat: bool = False
    tenant: Hashable = None
    mask: Mask | None = None
    asked: GenerateRequest | None = None
    first_token_at: float | None = None
    choices: Choices | None = None

    @property
    def tokens(self) -> int:
        """The most that it may come to."""
        return len(self.ids) + (self.max_tokens if self.choices is None else len(self.choices.tokens))


@dataclass(frozen=True, slots=True)
class Generation:
    """``ids``: the new tokens only; ``finish_reason``: by an end token, a stop text or a mask, or by the row's limit. ``logprobs``: one a
    token, where they were asked for. ``cached_tokens``: of the prompt, those that were not computed for this row.

    Of an engine that is a server: ``prompt_tokens``, as it counted them, and ``model_version``, as it told of itself with this answer. Of
    rules and templates: the ``rule`` that decided."""

    text: str
    ids: Sequence[int]
    finish_reason: Ending
    logprobs: Sequence[TokenLogprob] | None = None
    cached_tokens: int = 0
    prompt_tokens: int | None = None
    model_version: str = ""
    rule: str | None = None


Answer = Generation | Scored  # of a row that goes on with its prompt, and of one that has choices


class Finished(NamedTuple):
    row: DecoderRow
    answer: Answer | FailedRow


class Room(NamedTuple):
    """What may be added now: so many rows, of so many `tokens` together. An engine that holds nothing takes one row of any size."""

    rows: int
    tokens: int


class Slots(Protocol):
    """The rows that one lane has under way. Used by that lane's thread alone."""

    def room(self) -> Room: ...

    def kv_tokens(self) -> int | None:
        """Tokens whose keys and values are held, by rows and as prefixes; None where that is not known. From any thread: about right while
        a step runs."""

    def add(self, rows: Sequence[DecoderRow]) -> None:
        """They take part in the next step, in the order of their turns. Quick, and raises nothing: what it takes is done in the step."""

    def step(self) -> Sequence[Finished]:
        """One token more for each row, or a part of its prompt. Gives the rows that ended; the rest go on. Blocks, and not for long.

        Raises OutOfMemory, EngineBroken, or anything where some row is to blame: then no row is held any more, and those that were and have
        not ended may be added again."""

    def cancel(self, row: DecoderRow) -> None:
        """Nobody waits for it: it gives up its place, and never ends. Of a row that is not held, nothing happens."""


class Asking(Protocol):
    """How a model is asked a question whose answers are known, in its tokens. Thread-safe.

    ``closing_ids``: each ends an answer of a line. ``goes_on``: it has no chat template, and only goes on with texts."""

    @property
    def closing_ids(self) -> Sequence[int]: ...
    @property
    def goes_on(self) -> bool: ...

    def question(self, text: str, lead: str) -> Ids | FailedRow:
        """By its chat template; of a model that goes on with texts, with ``lead`` behind it, which an answer follows. Of a text that is
        certain to be too long as `tokenize_chat`."""

    def answer(self, text: str) -> Ids:
        """What follows a question."""

    def token_ends(self, text: str, most: int | None = None) -> Sequence[int]:
        """Where in a text its tokens end, in characters: of the first ``most``, or of all. None is before the one that precedes it."""


class DecoderEngine(Engine, Protocol):
    @property
    def chat_stop(self) -> tuple[str, ...]:
        """What ends an answer to chat messages besides the model's end token."""

    @property
    def vocabulary(self) -> Vocabulary | None:
        """Its tokens, for masks and logprobs. None of an engine whose server has them: it reads what is ``asked``."""

    @property
    def asking(self) -> Asking | None:
        """For rows with choices. None of an engine whose server scores none."""

    def tokenize_chat(self, messages: Sequence[Message]) -> Ids | FailedRow:
        """Thread-safe, as is `tokenize_prompt`. Of a text that is certain to be too long, perhaps the ids of its head: still too long, and
        not minutes of work."""

    def tokenize_prompt(self, prompt: str) -> Ids | FailedRow: ...

    def slots(self) -> Slots:
        """Those of one lane more. Lanes share the weights and nothing else."""
