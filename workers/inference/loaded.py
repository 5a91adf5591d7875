"""The models that this process has loaded: each when it is first asked for, with the micro-batcher that feeds it."""

import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

from db.errors import TextmillError
from workers.arrays import Ids, Vectors
from workers.batches.batcher import Batcher, Watch
from workers.batches.outcomes import BatchReport
from workers.engines.contract.engine import DecoderEngine, GenerateItem, Generation
from workers.engines.loading import EngineSettings, load_decoder, load_encoder
from workers.inference.duplicates import Duplicates
from workers.inference.encoder import Encoder
from workers.models import registry
from workers.models.zero_shot import LabelSpace

Observe = Callable[[str, BatchReport], None]


@dataclass(frozen=True, slots=True)
class Decoder:
    engine: DecoderEngine
    batcher: Batcher[GenerateItem, list[GenerateItem], Generation]


LoadedT = TypeVar("LoadedT", Encoder, Decoder)


class LoadedModels:
    """One per process, called from all shards' threads. `observe(model_id, report)` is called after every micro-batch, and `watch()` is
    entered while one runs, on the lane's thread."""

    def __init__(self, settings: EngineSettings, *, observe: Observe | None = None, watch: Watch = nullcontext) -> None:
        self._settings = settings
        self._observe = observe
        self._watch = watch
        self._lock = threading.Lock()
        self._loading: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._encoders: dict[str, Encoder] = {}
        self._decoders: dict[str, Decoder] = {}
        self._duplicates = Duplicates()
        self._closed = False

    def load(self, model_id: str) -> None:
        """Returns once the model is ready, which takes seconds, or a minute where this machine was never calibrated for it."""
        if registry.get(model_id).kind == "encoder":
            self.encoder(model_id)
        else:
            self.decoder(model_id)

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

    def encoder(self, model_id: str) -> Encoder:
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
                    watch=self._watch,
                )
                self._keep(self._encoders, model_id, Encoder(model_id, engine, batcher, self._duplicates, LabelSpace()))
            return self._encoders[model_id]

    def decoder(self, model_id: str) -> Decoder:
        card = registry.get(model_id)
        if card.kind != "decoder":
            raise TextmillError("This model does not generate.", code="model_task_mismatch", status=400)
        with self._loading[model_id]:
            if model_id not in self._decoders:
                engine, plan = load_decoder(card, self._settings)
                batcher: Batcher[GenerateItem, list[GenerateItem], Generation] = Batcher(
                    list,
                    engine.generate,
                    name=model_id,
                    lanes=plan.lanes,
                    policy=plan.policy,
                    observe=self._observer(model_id),
                    watch=self._watch,
                )
                self._keep(self._decoders, model_id, Decoder(engine, batcher))
            return self._decoders[model_id]

    def _keep(self, loaded: dict[str, LoadedT], model_id: str, one: LoadedT) -> None:
        with self._lock:
            loaded[model_id] = one
            closed = self._closed
        if closed:
            one.batcher.stop(drain=False)

    def _observer(self, model_id: str) -> Callable[[BatchReport], None] | None:
        observe = self._observe
        return None if observe is None else lambda report: observe(model_id, report)
