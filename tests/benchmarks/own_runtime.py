"""The worker's runtime in a process of a benchmark's own: pinned and warm, as the machine's calibration chose or in fp32."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from db.settings import load
from tests.benchmarks.mill import ENCODER
from workers.settings import WorkerSettings

if TYPE_CHECKING:
    from workers.inference.encoder import Answered


def open_runtime(*, exact: bool = False, observe: Any = None) -> tuple[Any, WorkerSettings]:
    """Call it before anything has imported torch: the process is pinned to its cores first, as a worker is."""
    settings = load(WorkerSettings)
    from workers.host.device import pin

    pinned = pin(settings.device, settings.lanes)
    settings = settings.model_copy(update={"device": pinned.device, **({"dtype": "exact"} if exact else {})})
    from workers.engines.loading import choice_for, find_out
    from workers.inference.runtime import Runtime
    from workers.models import registry

    card = registry.get(ENCODER)
    if pinned.device == "cpu" and not exact and choice_for(card, settings).is_open(None):  # before the rows, not beside them
        find_out(card, settings)
    runtime = Runtime(settings, observe=observe)
    runtime.warm(ENCODER)
    return runtime, settings


def scores_of(runtime: Any, texts: Sequence[str], labels: Sequence[str], *, interactive: bool = False) -> tuple["Answered", Any]:
    """What the model says of these texts, and their scores under these labels [texts, labels]: no answer is written, no row kept."""
    from workers.batches.ticket import Ticket
    from workers.models.zero_shot import TEMPLATES, softmax
    from workers.tasks.classify.running import logits_of, pooled_logits

    encoder, ticket = runtime.encoder(ENCODER), Ticket(interactive=interactive)
    answered = encoder.answer(texts, None, ticket)
    return answered, softmax(pooled_logits(answered, answered.good(), logits_of(encoder, labels, TEMPLATES, ticket)))
