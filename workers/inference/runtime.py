"""The one door of a worker process to its models: texts in, labels, vectors or texts out.

A Runtime owns the engines and their micro-batchers, loads each model when it is first asked for, and is called from all shard threads at
once: their rows share batches. Every call blocks until its rows are done. A row that cannot be done comes back as a FailedRow and its
neighbours go on; `stop`, when set, makes the call raise Stopped before the next batch of its rows; EngineBroken means that the process must
end. Tenants, jobs and files are unknown here.
"""

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, cast

import msgspec

from db.errors import TextmillError
from workers.arrays import Vectors
from workers.batches.outcomes import BatchShare, FailedRow
from workers.engines.contract.engine import DecoderEngine, GenerateItem, Message
from workers.engines.contract.long_texts import Long
from workers.inference.encoder import wait_served
from workers.inference.loaded import LoadedModels
from workers.models import registry, zero_shot
from workers.stages import StageSeconds
from workers.training.head import LoadedHead, TrainedHead, fit_head, load_head

if TYPE_CHECKING:
    from db.catalogue.heads import Head


DEFAULT_OUTPUT_TOKENS = 256
_UNANSWERED = FailedRow("engine_error")


class Classified(msgspec.Struct, frozen=True, gc=False):
    """`probabilities` in the order of `labels`, which rows with the same labels share; `winner` is the place of the highest."""

    labels: tuple[str, ...]
    winner: int
    probabilities: list[float]
    input_tokens: int
    truncated: bool
    chunks: int

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
    """`vectors` [n, d], unit length; the row of a failed text is zero and `failed` maps its index to why. `chunks`: each text's windows."""

    vectors: Vectors
    tokens: list[int]
    truncated: list[bool]
    chunks: list[int]
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


class Runtime(LoadedModels):
    """One per process. `observe(model_id, report)` is called after every micro-batch, and `watch()` is entered while one runs, on the
    lane's thread."""

    def warm(self, model_ids: Sequence[str]) -> None:
        """Loads these models and runs each once, so that the first shard does not pay for it."""
        for model_id in model_ids:
            if registry.get(model_id).kind == "encoder":
                self.embed(model_id, ["A first text."])
            else:
                self.generate(model_id, [GenerateRequest(prompt="A first", max_tokens=1)])

    def embed(
        self,
        model_id: str,
        texts: Sequence[str],
        *,
        long: Sequence[Long] | None = None,
        stop: threading.Event | None = None,
        job: bytes | None = None,
        interactive: bool = False,
        tenant: Hashable = None,
    ) -> EmbedOutcome:
        """A text longer than the model is cut and marked truncated, unless `long` says otherwise for it: it fails with input_too_long, or
        its windows' vectors are pooled.

        Texts of the same `job` with the same tokens are computed once; without one, each is. `interactive` rows make up the next batch;
        rows of several tenants take turns.
        """
        encoder = self.encoder(model_id)
        answered = encoder.answer(texts, long=long, stop=stop, job=job, interactive=interactive, tenant=tenant)
        read, version = answered.read, encoder.engine.model_version
        vectors, pieces = answered.vectors, read.pieces
        if pieces.chunked:
            vectors = pieces.pool(vectors, range(len(texts)))
            vectors = vectors if encoder.engine.labels else zero_shot.unit(vectors)
            vectors[list(answered.failed)] = 0.0
        return EmbedOutcome(vectors, read.tokens, read.truncated, pieces.counts(), answered.failed, answered.share, version, read.stages)

    def classify(
        self,
        model_id: str,
        texts: Sequence[str],
        labels: Sequence[Sequence[str]] = (),
        templates: Sequence[Sequence[str] | None] = (),
        head: "Head | None" = None,
        *,
        long: Sequence[Long] | None = None,
        stop: threading.Event | None = None,
        job: bytes | None = None,
        interactive: bool = False,
        tenant: Hashable = None,
    ) -> ClassifyOutcome:
        """With a head, or a model that is a classifier, its labels count, and `labels` and `templates` are not read.

        Otherwise there is a list of labels for every text (rows that share a list object share the work) and templates, or None for the
        house's own. Scores sum to 1. Of a text in windows, the windows' logits are pooled."""
        if head is not None and head.base != model_id:
            raise TextmillError("The head was trained over another encoder than the one it is used with.", code="model_task_mismatch")
        encoder = self.encoder(model_id)
        answered = encoder.answer(texts, long=long, stop=stop, job=job, interactive=interactive, tenant=tenant)
        read, version = answered.read, encoder.engine.model_version
        rows: list[Classified | FailedRow] = [_UNANSWERED] * len(texts)
        for index, why in answered.failed.items():
            rows[index] = why
        done = [index for index in range(len(texts)) if index not in answered.failed]

        def fill(members: Sequence[int], names: tuple[str, ...], logits_of: Callable[[Vectors], Vectors]) -> None:
            logits = logits_of(answered.vectors[read.pieces.of_all(members)])
            probabilities = zero_shot.softmax(read.pieces.pool(logits, members))
            best = probabilities.argmax(axis=1)
            for index, row, winner in zip(members, probabilities.tolist(), best.tolist(), strict=True):
                rows[index] = Classified(names, winner, row, read.tokens[index], read.truncated[index], read.pieces.count_of(index))

        if head is not None:
            loaded = _loaded_head(head.version, head.weights, tuple(cast("list[str]", head.card["labels"])))
            fill(done, loaded.labels, loaded.logits)
            return ClassifyOutcome(rows, answered.share, f"{version}+head@{head.version[:12]}", read.stages)
        if encoder.engine.labels:
            fill(done, encoder.engine.labels, lambda logits: logits)
            return ClassifyOutcome(rows, answered.share, version, read.stages)

        def embed_descriptions(descriptions: list[str]) -> Vectors:
            # By this encoder, not by one that takes its place meanwhile: a chunk is answered in one way.
            described = encoder.answer(descriptions, long=None, stop=stop, job=None, interactive=interactive, tenant=tenant)
            if described.failed:
                raise TextmillError("A label could not be embedded.", code=next(iter(described.failed.values())).code)
            return described.vectors

        for (names, forms), members in _by_label_list(done, labels, templates).items():
            made = encoder.labels.prototypes(names, forms, embed_descriptions)
            fill(members, names, partial(zero_shot.logits, label_prototypes=made))
        return ClassifyOutcome(rows, answered.share, version, read.stages)

    def generate(
        self,
        model_id: str,
        prompts: Sequence[GenerateRequest],
        *,
        stop: threading.Event | None = None,
        interactive: bool = False,
        tenant: Hashable = None,
    ) -> GenerateOutcome:
        """A prompt that leaves no room for a token fails with prompt_too_long; one that brings nothing but space with empty_generation."""
        decoder = self.decoder(model_id)
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
        served = wait_served(decoder.batcher.submit(items, lengths, stop, interactive=interactive, tenant=tenant), stages)
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

    def train_head(
        self,
        model_id: str,
        texts: Sequence[str],
        labels: Sequence[str],
        *,
        stop: threading.Event | None = None,
        tenant: Hashable = None,
    ) -> TrainedHead:
        """Texts that the model could not embed are left out of the fit and counted in the card."""
        if self.encoder(model_id).engine.labels:
            raise TextmillError("A head is trained over a sentence encoder, and this model is a classifier.", code="model_task_mismatch")
        embedded = self.embed(model_id, texts, stop=stop, tenant=tenant)
        kept = [index for index in range(len(texts)) if index not in embedded.failed]
        trained = fit_head(embedded.vectors[kept], [labels[index] for index in kept])
        trained.card.update(base=model_id, base_version=embedded.model_version, skipped=len(embedded.failed))
        return trained


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
