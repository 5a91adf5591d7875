"""Training a head: its body, and how it is read. Light."""

from typing import TYPE_CHECKING, Final

from workers.tasks.body import Body
from workers.tasks.reading import label_fault, same_label, text_fault
from workers.tasks.task import Task

if TYPE_CHECKING:
    from workers.models.card import ModelCard


class TrainBody(Body, forbid_unknown_fields=True, kw_only=True):
    pass


class Train(Task[TrainBody]):
    name = "train"
    endpoints = ("/v1/heads",)
    body = TrainBody
    in_batches = False  # made by POST /v1/heads
    laid = ("input", "label")
    whole = True  # a head is fitted to all its rows at once

    @property
    def models(self) -> str:
        return "classify"

    def card_fault(self, card: "ModelCard", endpoint: str) -> str | None:
        """A head stands on vectors: neither on another classifier's labels nor on a decoder's words."""
        trains = card.kind == "encoder" and not card.own_labels
        return super().card_fault(card, endpoint) if trains else "model_task_mismatch"

    def ask(self, body: TrainBody, defaults: TrainBody, endpoint: str) -> TrainBody | str:
        body.model = defaults.model  # one head of all rows, whatever one of them names
        if body.label is None:
            return text_fault(body.input) or "missing_label"
        fault = text_fault(body.input) or label_fault(body.label)
        body.label = same_label(body.label)  # `sport` and `sport ` are one
        return fault or body


TASK: Final = Train()
