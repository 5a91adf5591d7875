"""The one door of a worker process to its models: each is loaded when it is first asked for, with the micro-batcher that feeds it.

A model runs at once, and is put in place anew when the process has found out how it runs best (:mod:`workers.inference.calibrator`).
"""

import queue
import threading
import time
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from db.errors import TextmillError
from workers.arrays import Ids, Vectors
from workers.batches.activity import Activity
from workers.batches.batcher import Batcher, Watch
from workers.batches.outcomes import BatchReport
from workers.engines.contract.engine import EncoderEngine, Generation
from workers.engines.contract.generation import GenerateRequest
from workers.engines.contract.plan import Plan
from workers.engines.loading import EngineSettings, choice_for, load_decoder, load_encoder
from workers.inference.calibrator import Calibrator
from workers.inference.decoder import Decoder
from workers.inference.duplicates import Duplicates
from workers.inference.encoder import Encoder
from workers.models import registry
from workers.models.zero_shot import LabelSpace

if TYPE_CHECKING:
    from workers.engines.calibration.choice import Choice

Observe = Callable[[str, BatchReport], None]


LoadedT = TypeVar("LoadedT", Encoder, Decoder)


class Runtime:
    """One per process, called from all shards' threads. `observe(model_id, report)` is called after every micro-batch, `watch()` is
    entered while one runs, on the lane's thread, and `changed()` is called when `loading` or `calibrating` tells something else."""

    def __init__(
        self,
        settings: EngineSettings,
        *,
        observe: Observe | None = None,
        watch: Watch = nullcontext,
        changed: Callable[[], object] = lambda: None,
    ) -> None:
        self._settings = settings
        self._observe = observe
        self._watch = watch
        self._lock = threading.Lock()
        self._loading: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._encoders: dict[str, Encoder] = {}
        self._decoders: dict[str, Decoder] = {}
        self._retired: list[Batcher[Ids, Any, Vectors]] = []  # of encoders whose place another has, and that somebody still uses
        self._duplicates = Duplicates()
        self._activity = Activity()
        self._changed = changed
        self._began_loading: dict[str, float] = {}  # by model, of a monotonic clock
        self._calibrator = Calibrator(self._activity, self._choice_for, self._swap, changed=changed)
        self._closed = False

    @property
    def loading(self) -> tuple[str, float] | None:
        """The model that is being loaded longest, and for how many seconds."""
        with self._lock:
            began = min(self._began_loading.items(), key=lambda one: one[1], default=None)
        return None if began is None else (began[0], time.monotonic() - began[1])

    @property
    def calibrating(self) -> str | None:
        return self._calibrator.model

    def hold_calibration(self, on_hold: bool) -> None:
        """Nothing is calibrated while it is on hold; it goes on afterwards."""
        self._calibrator.on_hold = on_hold
        self._activity.wake()

    def load(self, model_id: str) -> None:
        """Returns once the model is ready, which takes seconds."""
        if registry.get(model_id).kind == "encoder":
            self.encoder(model_id)
        else:
            self.decoder(model_id)

    def warm(self, model_ids: Sequence[str]) -> None:
        """Loads these models and runs each once, so that the first shard does not pay for it."""
        for model_id in model_ids:
            if registry.get(model_id).kind == "encoder":
                self.encoder(model_id).answer(["A first text."])
            else:
                self.decoder(model_id).answer([GenerateRequest(prompt="A first", max_tokens=1)])

    def close(self, *, drain: bool = True) -> None:
        """With drain, calls under way finish; without, they raise Stopped after the batches in flight."""
        with self._lock:
            self._closed = True
            stops = [one.batcher.stop for one in self._encoders.values()] + [one.batcher.stop for one in self._decoders.values()]
            stops += [batcher.stop for batcher in self._retired]
        for stop in stops:
            stop(drain=drain)
        self._calibrator.close()

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
                with self._tell_loading(model_id):
                    loaded = load_encoder(card, self._settings)
                self._keep(self._encoders, model_id, self._encoder_of(model_id, loaded.engine, loaded.plan))
                if loaded.is_open:
                    self._calibrator.add(model_id, loaded.plan)
            return self._encoders[model_id]

    def decoder(self, model_id: str) -> Decoder:
        card = registry.get(model_id)
        if card.kind != "decoder":
            raise TextmillError("This model does not generate.", code="model_task_mismatch", status=400)
        with self._loading[model_id]:
            if model_id not in self._decoders:
                with self._tell_loading(model_id):
                    engine, plan = load_decoder(card, self._settings)
                batcher: Batcher[GenerateRequest, list[GenerateRequest], Generation] = Batcher(
                    list,
                    engine.generate,
                    name=model_id,
                    lanes=plan.lanes,
                    policy=plan.policy,
                    observe=self._observer(model_id),
                    watch=self._watch,
                    activity=self._activity,
                )
                self._keep(self._decoders, model_id, Decoder(engine, batcher))
            return self._decoders[model_id]

    def _encoder_of(self, model_id: str, engine: EncoderEngine, plan: Plan) -> Encoder:
        batcher: Batcher[Ids, Any, Vectors] = Batcher(
            engine.prepare,
            lambda prepared: list(engine.run(prepared)),
            name=model_id,
            lanes=plan.lanes,
            policy=plan.policy,
            observe=self._observer(model_id),
            watch=self._watch,
            activity=self._activity,
        )
        return Encoder(model_id, engine, batcher, self._duplicates, LabelSpace())

    def _choice_for(self, model_id: str) -> "Choice":
        return choice_for(registry.get(model_id), self._settings)

    def _swap(self, model_id: str, engine: EncoderEngine, plan: Plan) -> None:
        """Whoever asks for the encoder from now on gets this one. Returns when nobody has the one before and its lanes have ended."""
        before = self._encoders[model_id]
        batcher = before.batcher
        let_go: queue.SimpleQueue[None] = queue.SimpleQueue()  # a finalizer runs anywhere: of what wakes a thread, only this takes no lock
        weakref.finalize(before, let_go.put, None).atexit = False
        with self._lock:
            self._retired.append(batcher)
        self._keep(self._encoders, model_id, self._encoder_of(model_id, engine, plan))
        del before
        while not self._closed:
            with suppress(queue.Empty):
                let_go.get(timeout=1.0)
                break
        batcher.stop(drain=True)
        with self._lock:
            self._retired.remove(batcher)

    @contextmanager
    def _tell_loading(self, model_id: str) -> Iterator[None]:
        with self._lock:
            self._began_loading[model_id] = time.monotonic()
        self._changed()
        try:
            yield
        finally:
            with self._lock:
                del self._began_loading[model_id]
            self._changed()

    def _keep(self, loaded: dict[str, LoadedT], model_id: str, one: LoadedT) -> None:
        with self._lock:
            loaded[model_id] = one
            closed = self._closed
        if closed:
            one.batcher.stop(drain=False)

    def _observer(self, model_id: str) -> Callable[[BatchReport], None] | None:
        observe = self._observe
        return None if observe is None else lambda report: observe(model_id, report)
