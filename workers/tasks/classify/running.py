"""Running a classification: what the encoder says to each text, held against labels, a head, or read as the classifier's own logits. How a
decoder is asked: :mod:`workers.tasks.classify.by_decoder`.

A row that the model could not do, or whose numbers are not finite, becomes a failure; its neighbours get their answers.
"""

import math
import time
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from importlib import import_module
from typing import Final, cast
from uuid import UUID

import msgspec

from db.errors import TextmillError
from db.queue.row import WorkRow
from workers.arrays import Vectors
from workers.batches.ticket import Ticket
from workers.engines.contract.long_texts import DEFAULT_POOL
from workers.inference.encoder import Answered, Encoder
from workers.models import languages, zero_shot
from workers.tasks.task import Group, Ran, Run, Work
from workers.training.head import LoadedHead, load_head

SCORE_DIGITS: Final = 6

# Texts, labels, logits of their vectors, the label set, and whether a logit tells how near the label is.
Asked = tuple[Sequence[int], tuple[str, ...], Callable[[Vectors], Vectors], str | None, bool]
ByLabels = tuple[tuple[str, ...], tuple[str, ...], str | None]  # labels, templates, the label set

_encode: Final = msgspec.json.Encoder().encode


def run(work: Work, group: Group, rows: Sequence[WorkRow]) -> Ran:
    if group.writer is not None:
        by_rules: Run = import_module("workers.tasks.classify.by_rules").run
        return by_rules(work, group, rows)
    if group.card is not None and group.card.kind == "decoder":
        by_decoder: Run = import_module("workers.tasks.classify.by_decoder").run  # which takes its form from here
        return by_decoder(work, group, rows)
    encoder = work.runtime.encoder(group.model)
    answered = encoder.answer([row.ask.input for row in rows], [row.ask for row in rows], work.ticket)
    for place, code in answered.failed.items():
        rows[place].fail(code)
    version, good = version_of(group, encoder), answered.good()
    if (brought := brought_labels(group, encoder)) is not None:
        asked: list[Asked] = [(good, *brought, None, False)]
    else:
        asked = [
            (members, names, logits_of(encoder, names, templates, work.ticket), label_set, _tells_nearness(group.model, templates))
            for (names, templates, label_set), members in _by_labels(rows, good).items()
        ]
    began = time.perf_counter()
    for members, names, logits, label_set, tells_nearness in asked:
        pooled = pooled_logits(answered, members, logits)
        if tells_nearness:
            answered.share.unlike_rows += zero_shot.unlike(pooled)
        scores = zero_shot.softmax(pooled)
        form = Form(work.lease.job_id, model=group.named, model_version=version, labels=names, label_set=label_set)
        for place, own, winner in zip(members, scores.tolist(), scores.argmax(axis=1).tolist(), strict=True):
            form.fill(rows[place], answered, place, own, winner)
    answered.share.foreign_rows += languages.foreign_to(group.card, (rows[place].ask.input for place in good))
    answered.stages.seal = time.perf_counter() - began
    return Ran(version, answered.share, answered.stages)


def version_of(group: Group, encoder: Encoder) -> str:
    """Of the model, and of the head over it."""
    version, head = encoder.engine.model_version, group.head
    return version if head is None else f"{version}+head@{head.version}:{head.digest[:12]}"


def brought_labels(group: Group, encoder: Encoder) -> tuple[tuple[str, ...], Callable[[Vectors], Vectors]] | None:
    """The labels of a head or of a classifier, and from vectors to their logits; None where a row brings labels."""
    if group.head is None:
        return (encoder.engine.labels, _as_they_are) if encoder.engine.labels else None
    if group.head.base != group.model:
        raise TextmillError("The head was trained over another encoder than the one it is used with.", code="model_task_mismatch")
    head = _loaded_head(group.head.model_id, group.head.weights, tuple(cast("list[str]", group.head.card["labels"])))
    return head.labels, head.logits


def pooled_logits(answered: Answered, members: Sequence[int], logits: Callable[[Vectors], Vectors]) -> Vectors:
    """[members, labels]. Of a text in windows, the windows' logits are pooled."""
    of_sequences = logits(answered.vectors[answered.pieces.of_all(members)])
    return answered.pieces.pool(of_sequences, members)


def _tells_nearness(model: str, templates: tuple[str, ...]) -> bool:
    """Whether the bound of `zero_shot.unlike` was measured with this model and these sentences."""
    return model == zero_shot.MEASURED_MODEL and templates == zero_shot.TEMPLATES


def logits_of(encoder: Encoder, labels: Sequence[str], templates: Sequence[str], ticket: Ticket) -> Callable[[Vectors], Vectors]:
    """From vectors to logits, by labels that the encoder never saw."""

    def embed(descriptions: list[str]) -> Vectors:
        described = encoder.answer(descriptions, None, Ticket(ticket.stop, ticket.tenant, None, ticket.interactive))
        if described.failed:
            raise TextmillError("A label could not be embedded.", code=next(iter(described.failed.values())))
        return described.vectors

    return partial(zero_shot.logits, label_prototypes=encoder.labels.prototypes(ticket.tenant, labels, templates, embed))


class Form:
    """What the answers of one model over one list of labels have in common, written once; a row's own numbers are put in.

    Half the time of encoding each row's dictionary, at five labels. ``labels`` are distinct; ``label_set``: the version they come from.
    """

    def __init__(self, job_id: UUID, *, model: str, model_version: str, labels: Sequence[str], label_set: str | None = None) -> None:
        self._labels = [_encode(label).decode() for label in labels]
        head = f',"object":"classification","model":{_quoted(model)},"model_version":{_quoted(model_version)},'
        head += f'"label_set":{_quoted(label_set)},"label":' if label_set is not None else '"label":'
        scores = ",".join(f"{_escaped(label)}:%.{SCORE_DIGITS}f" for label in self._labels)
        usage = '"usage":{"input_tokens":%d,"output_tokens":0,"total_tokens":%d}'
        self._form = f'{{"id":"cls_{job_id.hex}%08x"' + head + '%s,"scores":{' + scores + '},"truncated":%s,' + usage + "}"

    def fill(self, row: WorkRow, answered: Answered, place: int, scores: Sequence[float], winner: int) -> None:
        """``scores`` in the order of the labels; ``winner``: the place of the label that is the answer. ``place``: of the row's text."""
        if not math.isfinite(sum(scores)):
            row.fail("non_finite_output")
            return
        cut = "true" if answered.truncated[place] else "false"
        if (chunks := answered.pieces.count_of(place)) > 1:
            cut += f',"chunks":{chunks},"pool":"{row.ask.pool or DEFAULT_POOL}"'
        if place in answered.unknown:
            cut += ',"all_unknown":true'
        tokens = answered.tokens[place]
        row.complete((self._form % (row.idx, self._labels[winner], *scores, cut, tokens, tokens)).encode(), tokens)


def _by_labels(rows: Sequence[WorkRow], places: Sequence[int]) -> dict[ByLabels, list[int]]:
    """Rows under each distinct (labels, templates, label set). Rows that share the list object are not compared string by string."""
    seen: dict[tuple[int, int, str | None], ByLabels] = {}
    groups: dict[ByLabels, list[int]] = {}
    for place in places:
        ask = rows[place].ask
        same = (id(ask.labels), id(ask.templates), ask.label_set)
        if same not in seen:
            seen[same] = (tuple(ask.labels), tuple(ask.templates) if ask.templates else zero_shot.TEMPLATES, ask.label_set)
        groups.setdefault(seen[same], []).append(place)
    return groups


def _as_they_are(logits: Vectors) -> Vectors:
    return logits


def _quoted(text: str) -> str:
    return _escaped(_encode(text).decode())


def _escaped(text: str) -> str:
    """For a form that is filled with ``%``."""
    return text.replace("%", "%%")


@lru_cache(maxsize=64)
def _loaded_head(_model_id: UUID, weights: bytes, labels: tuple[str, ...]) -> LoadedHead:
    """By its id, too, which is one tenant's: equal heads of two are loaded twice."""
    return load_head(weights, {"labels": list(labels)})
