"""A deterministic engine without a model, for fault tests: what it answers is a function of the text and of nothing else.

On only where TEXTMILL_FAKE_ENGINE=1 (the registry then lists "fake-encoder" and "fake-decoder"). TEXTMILL_FAKE_DELAY_MS adds that many
milliseconds a row, so that a test can interrupt a batch. TEXTMILL_FAKE_LOG names a file that gets a line for every call of the model (see
`Call`). A text may hold one of MARKS to make the engine fail as a real one may.
`expected_label`, `expected_text` and `expected_logprobs` are the f(text) that a test compares with. Never use it to judge speed or quality.
"""

import hashlib
import os
import re
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from workers.arrays import Ids, Vectors
from workers.batches.outcomes import FailedRow, OutOfMemory
from workers.engines.contract.choices import Scored
from workers.engines.contract.decoding import Answer, DecoderRow, Ending, Finished, Generation, Mask, Room, TokenLogprob
from workers.engines.contract.generation import Message, before_stop
from workers.engines.encoders.windows import windows
from workers.grammars.masks import Vocabulary
from workers.models.fake_models import DIMENSIONS, MAX_TOKENS
from workers.models.zero_shot import TEMPLATES, prototypes, written

MARKS = {
    "error": "[[fake:error]]",  # the engine raises
    "memory": "[[fake:memory]]",  # out of memory, even alone
    "crowded": "[[fake:crowded]]",  # out of memory unless alone in its batch
    "nan": "[[fake:nan]]",  # the model's numbers are spoilt for this row
    "empty": "[[fake:empty]]",  # generates nothing
    "exit": "[[fake:exit]]",  # the process dies at once, as by a segmentation fault
    "hang": "[[fake:hang]]",  # the model never comes back
}

FAKE_SLOTS: Final = 32
BYTE_END: Final = 256  # the token behind those of the bytes
# How soon an answer under a grammar ends with each token.
ENDING_BYTES: Final = np.zeros(288, dtype=np.int32)
ENDING_BYTES[[BYTE_END, *b'"}]']] = 4, 3, 2, 2


def vectors_of(texts: Sequence[bytes]) -> Vectors:
    """[n, 32], unit length: a hash of each text spread over the sphere."""
    digests = b"".join([hashlib.blake2b(text, digest_size=DIMENSIONS * 2).digest() for text in texts])
    values = np.frombuffer(digests, dtype="<i2").astype(np.float32).reshape(len(texts), DIMENSIONS)
    unit: Vectors = values / np.sqrt(np.square(values).sum(axis=1, keepdims=True))
    return unit


def vector_of(text: str) -> Vectors:
    """[32]: the same for one."""
    one: Vectors = vectors_of([text.encode()])[0]
    return one


def expected_label(text: str, labels: Sequence[str], templates: Sequence[str] = TEMPLATES) -> str:
    """What classify answers for this text."""
    made = prototypes(np.stack([vector_of(one) for one in written(labels, templates)]), len(templates))
    return labels[int(np.argmax(made @ vector_of(text)))]


def expected_logprobs(prompt: str, choices: int) -> NDArray[np.float64]:
    """[choices]: what they are scored behind this prompt: numbers of a hash."""
    seed = int.from_bytes(hashlib.blake2b(prompt.encode(), digest_size=8).digest())
    return -np.random.default_rng(seed).exponential(3.0, choices)


def expected_text(prompt: str, max_tokens: int = 16) -> str:
    """What generate answers for this prompt: words of a hash."""
    digest = hashlib.blake2b(prompt.encode(), digest_size=32).hexdigest()
    return " ".join(digest[at : at + 4] for at in range(0, 64, 4)[: max(1, min(max_tokens, 16))])


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the model: when it began (seconds since 1970), in which process, and the digests of its texts."""

    at: float
    pid: int
    digests: tuple[str, ...]


def digest_of(text: str) -> str:
    return _digest(text.encode())


def read_calls(log: Path) -> Iterator[Call]:
    """What the processes that share this log have asked of the model, in the order in which it was written.

    A process that is killed while it writes leaves the beginning of a line, and the next call stands right behind it."""
    if not log.exists():
        return
    with log.open() as lines:
        for line in lines:
            for at, pid, digests in _CALL.findall(line):
                yield Call(float(at), int(pid), tuple(digests.split()))


# Neither a digest nor a process's number runs into the time of the call that follows.
_CALL: Final = re.compile(r"(\d{10}\.\d{6}) (\d+)(?![\d.])((?: [0-9a-f]{16}(?![0-9a-f.]))*)")


def _digest(text: bytes) -> str:
    return hashlib.blake2b(text, digest_size=8).hexdigest()


class CallLog:
    """Written before the model runs, each call in one write: a process that is killed in it has told of it."""

    def __init__(self) -> None:
        path = os.environ.get("TEXTMILL_FAKE_LOG")
        self._file = None if not path else os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def add(self, texts: Sequence[bytes]) -> None:
        if self._file is not None:
            os.write(self._file, f"{time.time():.6f} {os.getpid()} {' '.join(map(_digest, texts))}\n".encode())


class FakeEncoder:
    """Tokens are the bytes of the text. Truncates at 4,096."""

    model_version = "fake-encoder@1"
    max_tokens = MAX_TOKENS
    dimensions = DIMENSIONS
    labels: tuple[str, ...] = ()
    unknown_id: int | None = None
    padded = False

    def __init__(self) -> None:
        self._delay_seconds = float(os.environ.get("TEXTMILL_FAKE_DELAY_MS") or 0) / 1000
        self._calls = CallLog()

    def tokenize(self, texts: Sequence[str]) -> tuple[list[Ids], list[bool]]:
        raw = [text.encode() for text in texts]
        sequences = [np.frombuffer(one[: self.max_tokens], dtype=np.uint8).astype(np.int32) for one in raw]
        return sequences, [len(one) > self.max_tokens for one in raw]

    def own_tokens(self, ids: Sequence[int]) -> Ids | None:
        return np.array(ids, dtype=np.int32) if max(ids) < BYTE_END else None

    def windows(self, text: str, stride: int) -> list[Ids]:
        return windows(np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int32), (), (), self.max_tokens, stride)

    def prepare(self, batch: Sequence[Ids]) -> list[bytes]:
        return [ids.astype(np.uint8).tobytes() for ids in batch]

    def run(self, texts: list[bytes]) -> Vectors:
        self._calls.add(texts)
        _suffer(texts, self._delay_seconds)
        vectors = vectors_of(texts)
        spoilt = MARKS["nan"].encode()
        vectors[[place for place, text in enumerate(texts) if spoilt in text]] = np.nan
        return vectors


class FakeDecoder:
    model_version = "fake-decoder@1"
    max_tokens = MAX_TOKENS
    chat_stop: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._delay_seconds = float(os.environ.get("TEXTMILL_FAKE_DELAY_MS") or 0) / 1000
        self._calls = CallLog()
        self.vocabulary = Vocabulary.of_bytes()
        self.asking = FakeAsking()

    def tokenize_chat(self, messages: Sequence[Message]) -> Ids:
        return self.tokenize_prompt(messages[-1].content)

    def tokenize_prompt(self, prompt: str) -> Ids:
        return np.frombuffer(prompt.encode(), dtype=np.uint8).astype(np.int32)

    def slots(self) -> "FakeSlots":
        return FakeSlots(self._delay_seconds, self._calls)


class FakeAsking:
    closing_ids = (BYTE_END,)
    goes_on = False

    def question(self, text: str, lead: str) -> Ids:
        return np.frombuffer((text + lead).encode(), dtype=np.uint8).astype(np.int32)

    def answer(self, text: str) -> Ids:
        return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int32)

    def token_ends(self, text: str, most: int | None = None) -> list[int]:
        return [at for at, character in enumerate(text[:most], 1) for _ in character.encode()][:most]


class FakeSlots:
    """All rows that were added end in the next step."""

    def __init__(self, delay_seconds: float, calls: CallLog) -> None:
        self._delay_seconds = delay_seconds
        self._calls = calls
        self._rows: list[DecoderRow] = []

    def room(self) -> Room:
        return Room(FAKE_SLOTS - len(self._rows), FAKE_SLOTS * MAX_TOKENS)

    def kv_tokens(self) -> int:
        return sum(len(row.ids) for row in self._rows)

    def add(self, rows: Sequence[DecoderRow]) -> None:
        self._rows += rows

    def cancel(self, row: DecoderRow) -> None:
        self._rows = [one for one in self._rows if one is not row]

    def step(self) -> list[Finished]:
        rows, self._rows = self._rows, []
        texts = [_text(row.ids) for row in rows]
        encoded = [text.encode() for text in texts]
        self._calls.add(encoded)
        _suffer(encoded, self._delay_seconds)
        for row in rows:
            row.first_token_at = time.perf_counter()
        return [Finished(row, self._answer(text, row)) for text, row in zip(texts, rows, strict=True)]

    def _answer(self, text: str, row: DecoderRow) -> Answer | FailedRow:
        if MARKS["nan"] in text:
            return FailedRow("non_finite_output")
        if row.choices is not None:
            return Scored(expected_logprobs(text, len(row.choices)))
        if row.mask is not None:
            return _least(row.mask, row.max_tokens)
        whole = "" if MARKS["empty"] in text else expected_text(text, row.max_tokens)
        answer = before_stop(whole, row.stop)
        words = len(answer.split())
        ending: Ending = "stop" if words < row.max_tokens or answer != whole else "length"
        return Generation(answer, list(range(words)), ending, _logprobs(words, row.sampling.top_logprobs))


def _logprobs(words: int, top: int | None) -> list[TokenLogprob] | None:
    """A logprob for each word, whose number stands for it."""
    if top is None:
        return None
    return [TokenLogprob(word, -0.5, tuple((word + more, -0.5 - more) for more in range(top))) for word in range(words)]


def _least(mask: Mask, max_tokens: int) -> Generation:
    """The bytes that a grammar allows, each time the first that ends something."""
    said: list[int] = []
    while len(said) < max_tokens:
        bits = np.zeros(ENDING_BYTES.size // 32, dtype=np.int32)
        mask.fill(bits)
        allowed = np.flatnonzero(np.unpackbits(bits.view(np.uint8), bitorder="little"))
        token = int(allowed[np.argmax(ENDING_BYTES[allowed])])
        said += [token] if token < BYTE_END else []
        if mask.take(token):
            return Generation(bytes(said).decode(errors="replace"), said, "stop")
    return Generation(bytes(said).decode(errors="replace"), said, "length")


def _text(ids: Ids) -> str:
    return ids.astype(np.uint8).tobytes().decode(errors="replace")


def _suffer(texts: Sequence[bytes], delay_seconds: float) -> None:
    if delay_seconds:
        time.sleep(delay_seconds * len(texts))
    whole = b"\n".join(texts).decode(errors="replace")
    if MARKS["exit"] in whole:
        os._exit(139)
    if MARKS["hang"] in whole:
        threading.Event().wait()
    if MARKS["memory"] in whole or (MARKS["crowded"] in whole and len(texts) > 1):
        raise OutOfMemory
    if MARKS["error"] in whole:
        raise ValueError("The fake engine was told to fail.")
