"""The one door of a worker process to its models: texts in, labels, vectors or texts out.

A Runtime owns the engines and their micro-batchers, loads each model when it is first asked for, and is called from all shard threads at
once: their rows share batches. Every call blocks until its rows are done. A row that cannot be done comes back as a FailedRow and its
neighbours go on; `stop`, when set, makes the call raise Stopped before the next batch of its rows; EngineBroken means that the process must
end. Tenants, jobs and files are unknown here.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec
import numpy as np

from db.errors import TextmillError
from workers import zero_shot
from workers.batcher import Batcher, BatchReport, BatchShare, Served
from workers.duplicates import Duplicates
from workers.engines.base import (
    DecoderEngine,
    EncoderEngine,
    FailedRow,
    GenerateItem,
    Generation,
    Ids,
    Message,
    Vectors,
)
from workers.engines.loading import EngineSettings, load_decoder, load_encoder
from workers.models import registry
from workers.stages import StageSeconds, queued
from workers.training.head import LoadedHead, TrainedHead, fit_head, load_head

if TYPE_CHECKING:
    from db.heads import Head

Observe = Callable[[str, BatchReport], None]
DEFAULT_OUTPUT_TOKENS = 256
_UNANSWERED = FailedRow("engine_error")


class Classified(msgspec.Struct, frozen=True, gc=False):
    """`probabilities` in the order of `labels`, which rows with the same labels share; `winner` is the place of the highest."""

    labels: tuple[str, ...]
    winner: int
    probabilities: list[float]
    input_tokens: int
    truncated: bool

    @property
    def label(self) -> str:
        return self.labels[self.winner]

    @property
    def scores(self) -> dict[str, float]:
        return dict(zip(self.labels, self.probabilities, strict=True))


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """Either `messages` or `prompt`. `max_tokens` None means up to DEFAULT_OUTPUT_TOKENS."""

    messages: tuple[Message, ...] = ()
    prompt: str | None = None
    max_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Generated:
    text: str
    finish_reason: str
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class EmbedOutcome:
    """`vectors` [n, d], unit length; the row of a failed text is zero and `failed` maps its index to why."""

    vectors: Vectors
    tokens: list[int]
    truncated: list[bool]
    failed: dict[int, FailedRow]
    share: BatchShare
    model_version: str
    stages: StageSeconds


@dataclass(frozen=True, slots=True)
class ClassifyOutcome:
    rows: list[Classified | FailedRow]
    share: BatchShare
    model_version: str
    stages: StageSeconds


@dataclass(frozen=True, slots=True)
class GenerateOutcome:
    rows: list[Generated | FailedRow]
    share: BatchShare
    model_version: str
    stages: StageSeconds


@dataclass(frozen=True, slots=True)
class _Encoder:
    engine: EncoderEngine
    batcher: Batcher[Ids, Any, Vectors]
    labels: zero_shot.LabelSpace


@dataclass(frozen=True, slots=True)
class _Decoder:
    engine: DecoderEngine
    batcher: Batcher[GenerateItem, list[GenerateItem], Generation]


_Loaded = TypeVar("_Loaded", _Encoder, _Decoder)
_Answer = TypeVar("_Answer")


class Runtime:
    """One per process. `observe(model_id, report)` is called after every micro-batch, on the lane's thread."""

    def __init__(self, settings: EngineSettings, *, observe: Observe | None = None) -> None:
        self._settings = settings
        self._observe = observe
        self._lock = threading.Lock()
        self._loading: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._encoders: dict[str, _Encoder] = {}
        self._decoders: dict[str, _Decoder] = {}
        self._duplicates = Duplicates()
        self._closed = False

    def warm(self, model_ids: Sequence[str]) -> None:
        """Loads these models and runs each once, so that the first shard does not pay for it."""
        for model_id in model_ids:
            if registry.get(model_id).kind == "encoder":
                self.embed(model_id, ["A first text."])
            else:
                self.generate(model_id, [GenerateRequest(prompt="A first", max_tokens=1)])

    def close(self, *, drain: bool = True) -> None:
        """With drain, calls under way finish; without, they raise Stopped after the batches in flight."""
        with self._lock:
            self._closed = True
            batchers = [one.batcher.stop for one in self._encoders.values()] + [one.batcher.stop for one in self._decoders.values()]
        for stop in batchers:
            stop(drain=drain)

    def lanes(self, model_id: str) -> int:
        """How many instances of a loaded model run at once."""
        loaded = self._encoders.get(model_id) or self._decoders[model_id]
        return loaded.batcher.lanes

    def embed(
        self,
        model_id: str,
        texts: Sequence[str],
        *,
        refuse_long: Sequence[bool] | None = None,
        stop: threading.Event | None = None,
        job: bytes | None = None,
        interactive: bool = False,
    ) -> EmbedOutcome:
        """A text longer than the model is cut and marked truncated, or fails with input_too_long where `refuse_long` is set for it.

        Texts of the same `job` with the same tokens are computed once; without one, each is. `interactive` rows make up the next batch.
        """
        encoder = self._encoder(model_id)
        started = time.perf_counter()
        tokens = encoder.engine.tokenize(texts)
        stages = StageSeconds(tokenise=time.perf_counter() - started)
        failed: dict[int, FailedRow] = {}
        if refuse_long is not None:
            failed = {
                index: FailedRow("input_too_long")
                for index, (one, refuse) in enumerate(zip(tokens, refuse_long, strict=True))
                if refuse and one.truncated
            }
        vectors = np.zeros((len(tokens), encoder.engine.dimensions), np.float32)
        asked = [index for index in range(len(tokens)) if index not in failed]
        groups = self._same(model_id, job, asked, [tokens[index].ids for index in asked])
        known = self._duplicates.find(list(groups)) if job is not None else {}
        for key, vector in known.items():
            vectors[groups[key]] = vector
        fresh = [key for key in groups if key not in known]
        ids = [tokens[groups[key][0]].ids for key in fresh]
        served = _served(encoder.batcher.submit(ids, [len(one) for one in ids], stop, interactive=interactive), stages)
        good = _place(vectors, failed, [groups[key] for key in fresh], served.answers)
        if job is not None:
            kept = [fresh[at] for at in good]
            self._duplicates.keep(kept, vectors[[groups[key][0] for key in kept]])
            served.share.duplicate_rows = float(len(asked) - len(fresh))
        return EmbedOutcome(
            vectors,
            [len(one.ids) for one in tokens],
            [one.truncated for one in tokens],
            failed,
            served.share,
            encoder.engine.model_version,
            stages,
        )

    def classify(
        self,
        model_id: str,
        texts: Sequence[str],
        labels: Sequence[Sequence[str]] = (),
        templates: Sequence[Sequence[str] | None] = (),
        head: "Head | None" = None,
        *,
        refuse_long: Sequence[bool] | None = None,
        stop: threading.Event | None = None,
        job: bytes | None = None,
        interactive: bool = False,
    ) -> ClassifyOutcome:
        """With a head, or a model that is a classifier, its labels count, and `labels` and `templates` are not read.

        Otherwise there is a list of labels for every text (rows that share a list object share the work) and templates, or None for the
        house's own. Scores sum to 1."""
        embedded = self.embed(model_id, texts, refuse_long=refuse_long, stop=stop, job=job, interactive=interactive)
        share, stages = embedded.share, embedded.stages
        rows: list[Classified | FailedRow] = [_UNANSWERED] * len(texts)
        for index, why in embedded.failed.items():
            rows[index] = why
        done = [index for index in range(len(texts)) if index not in embedded.failed]
        if head is not None:
            if head.base != model_id:
                raise TextmillError("The head was trained over another encoder than the one it is used with.", code="model_task_mismatch")
            loaded = _loaded_head(head.version, head.weights, tuple(cast("list[str]", head.card["labels"])))
            self._fill(rows, done, loaded.labels, loaded.probabilities(embedded.vectors[done]), embedded)
            return ClassifyOutcome(rows, share, f"{embedded.model_version}+head@{head.version[:12]}", stages)
        encoder = self._encoder(model_id)
        if encoder.engine.labels:
            self._fill(rows, done, encoder.engine.labels, zero_shot.softmax(embedded.vectors[done]), embedded)
            return ClassifyOutcome(rows, share, embedded.model_version, stages)

        def embed_descriptions(descriptions: list[str]) -> Vectors:
            described = self.embed(model_id, descriptions, stop=stop, interactive=interactive)
            if described.failed:
                raise TextmillError("A label could not be embedded.", code=next(iter(described.failed.values())).code)
            return described.vectors

        for (names, forms), members in _by_label_list(done, labels, templates).items():
            made = encoder.labels.prototypes(names, forms, embed_descriptions)
            self._fill(rows, members, names, zero_shot.probabilities(embedded.vectors[members], made), embedded)
        return ClassifyOutcome(rows, share, embedded.model_version, stages)

    def generate(
        self, model_id: str, prompts: Sequence[GenerateRequest], *, stop: threading.Event | None = None, interactive: bool = False
    ) -> GenerateOutcome:
        """A prompt that leaves no room for a token fails with prompt_too_long; one that brings nothing but space with empty_generation."""
        decoder = self._decoder(model_id)
        started = time.perf_counter()
        rows: list[Generated | FailedRow] = [FailedRow("prompt_too_long")] * len(prompts)
        asked: list[int] = []
        items: list[GenerateItem] = []
        for index, request in enumerate(prompts):
            item = _item(decoder.engine, request, stop)
            if item is not None:
                asked.append(index)
                items.append(item)
        stages = StageSeconds(tokenise=time.perf_counter() - started)
        lengths = [len(item.ids) + item.max_tokens for item in items]
        served = _served(decoder.batcher.submit(items, lengths, stop, interactive=interactive), stages)
        for index, item, answer in zip(asked, items, served.answers, strict=True):
            if isinstance(answer, FailedRow):
                rows[index] = answer
            elif not answer.text.strip():
                rows[index] = FailedRow("empty_generation")
            else:
                # A chat answer stands alone; a continuation carries on in mid-sentence, where its leading space belongs to it.
                text = answer.text if prompts[index].prompt is not None else answer.text.strip()
                rows[index] = Generated(text, answer.finish_reason, len(item.ids), len(answer.ids))
        return GenerateOutcome(rows, served.share, decoder.engine.model_version, stages)

    def train_head(self, model_id: str, texts: Sequence[str], labels: Sequence[str], *, stop: threading.Event | None = None) -> TrainedHead:
        """Texts that the model could not embed are left out of the fit and counted in the card."""
        if self._encoder(model_id).engine.labels:
            raise TextmillError("A head is trained over a sentence encoder, and this model is a classifier.", code="model_task_mismatch")
        embedded = self.embed(model_id, texts, stop=stop)
        kept = [index for index in range(len(texts)) if index not in embedded.failed]
        trained = fit_head(embedded.vectors[kept], [labels[index] for index in kept])
        trained.card.update(base=model_id, base_version=embedded.model_version, skipped=len(embedded.failed))
        return trained

    def _same(self, model_id: str, job: bytes | None, indices: Sequence[int], texts: Sequence[Ids]) -> dict[bytes, list[int]]:
        """Indices that take the same answer, by key, in the order of their first. Without a job each stands alone."""
        if job is None:
            return {index.to_bytes(8): [index] for index in indices}
        groups: dict[bytes, list[int]] = {}
        for index, key in zip(indices, self._duplicates.keys(job, model_id, texts), strict=True):
            if (places := groups.get(key)) is None:
                groups[key] = [index]
            else:
                places.append(index)
        return groups

    @staticmethod
    def _fill(
        rows: list[Classified | FailedRow],
        members: Sequence[int],
        names: tuple[str, ...],
        probabilities: Vectors,
        embedded: EmbedOutcome,
    ) -> None:
        best = probabilities.argmax(axis=1)
        tokens, truncated = embedded.tokens, embedded.truncated
        for index, row, winner in zip(members, probabilities.tolist(), best.tolist(), strict=True):
            rows[index] = Classified(names, winner, row, tokens[index], truncated[index])

    def _encoder(self, model_id: str) -> _Encoder:
        card = registry.get(model_id)
        if card.kind != "encoder":
            raise TextmillError("This model does not embed or classify.", code="model_task_mismatch", status=400)
        with self._loading[model_id]:
            if model_id not in self._encoders:
                engine, plan = load_encoder(card, self._settings)
                batcher: Batcher[Ids, Any, Vectors] = Batcher(
                    engine.prepare,
                    lambda prepared: list(engine.run(prepared)),
                    name=model_id,
                    lanes=plan.lanes,
                    policy=plan.policy,
                    observe=self._observer(model_id),
                )
                self._keep(self._encoders, model_id, _Encoder(engine, batcher, zero_shot.LabelSpace()))
            return self._encoders[model_id]

    def _decoder(self, model_id: str) -> _Decoder:
        card = registry.get(model_id)
        if card.kind != "decoder":
            raise TextmillError("This model does not generate.", code="model_task_mismatch", status=400)
        with self._loading[model_id]:
            if model_id not in self._decoders:
                engine, plan = load_decoder(card, self._settings)
                batcher: Batcher[GenerateItem, list[GenerateItem], Generation] = Batcher(
                    list, engine.generate, name=model_id, lanes=plan.lanes, policy=plan.policy, observe=self._observer(model_id)
                )
                self._keep(self._decoders, model_id, _Decoder(engine, batcher))
            return self._decoders[model_id]

    def _keep(self, loaded: dict[str, _Loaded], model_id: str, one: _Loaded) -> None:
        with self._lock:
            loaded[model_id] = one
            closed = self._closed
        if closed:
            one.batcher.stop(drain=False)

    def _observer(self, model_id: str) -> Callable[[BatchReport], None] | None:
        observe = self._observe
        return None if observe is None else lambda report: observe(model_id, report)


def _place(
    vectors: Vectors, failed: dict[int, FailedRow], places: Sequence[list[int]], answers: Sequence[Vectors | FailedRow]
) -> list[int]:
    """Puts each answer in all its places, all of them at once: a numpy call a row would cost more than the row's whole way here.

    Returns which answers were good. The places of the others are in `failed`, and their vectors stay as they are.
    """
    for own, answer in zip(places, answers, strict=True):
        if isinstance(answer, FailedRow):
            failed.update(dict.fromkeys(own, answer))
    answered = [at for at, answer in enumerate(answers) if not isinstance(answer, FailedRow)]
    if not answered:
        return []
    found = np.concatenate([answers[at] for at in answered]).reshape(len(answered), -1)
    finite = np.isfinite(found).all(axis=1)
    if not finite.all():
        for spoilt in np.flatnonzero(~finite).tolist():
            failed.update(dict.fromkeys(places[answered[spoilt]], FailedRow("non_finite_output")))
        answered = [at for at, is_good in zip(answered, finite.tolist(), strict=True) if is_good]
        found = found[finite]
    vectors[[places[at][0] for at in answered]] = found
    for at in answered:
        if len(places[at]) > 1:
            vectors[places[at][1:]] = vectors[places[at][0]]
    return answered


def _served(call: Future[Served[_Answer]], stages: StageSeconds) -> Served[_Answer]:
    """Waits for a call, and sorts the time that took into the lanes' and the queue's."""
    started = time.perf_counter()
    served = call.result()
    stages.model = served.share.model_seconds
    stages.queue = queued(time.perf_counter() - started, stages.model)
    return served


def _by_label_list(
    indices: Sequence[int], labels: Sequence[Sequence[str]], templates: Sequence[Sequence[str] | None]
) -> dict[tuple[tuple[str, ...], tuple[str, ...]], list[int]]:
    """Rows under each distinct (labels, templates). Rows that share the list object are not compared string by string."""
    seen: dict[tuple[int, int], tuple[tuple[str, ...], tuple[str, ...]]] = {}
    groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[int]] = {}
    for index in indices:
        forms = templates[index] if templates else None
        same = (id(labels[index]), id(forms))
        if same not in seen:
            seen[same] = (tuple(labels[index]), tuple(forms) if forms else zero_shot.TEMPLATES)
        groups.setdefault(seen[same], []).append(index)
    return groups


def _item(engine: DecoderEngine, request: GenerateRequest, stop: threading.Event | None) -> GenerateItem | None:
    """The prompt as the engine takes it, or None where it leaves no room for a single new token."""
    chat = request.prompt is None
    ids = engine.tokenize_chat(request.messages) if request.prompt is None else engine.tokenize_prompt(request.prompt)
    room = engine.max_tokens - len(ids)
    if room < 1:
        return None
    wanted = request.max_tokens if request.max_tokens is not None else DEFAULT_OUTPUT_TOKENS
    ends = request.stop + engine.chat_stop if chat else request.stop
    return GenerateItem(ids, min(wanted, room), request.temperature, request.top_p, request.seed, ends, stop)


@lru_cache(maxsize=64)
def _loaded_head(version: str, weights: bytes, labels: tuple[str, ...]) -> LoadedHead:
    return load_head(weights, {"labels": list(labels)})
