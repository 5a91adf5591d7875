"""The one door of a worker process to its models: each is loaded when it is first asked for, with the micro-batcher that feeds it.

A model runs at once, and is put in place anew when the process has found out how it runs best (:mod:`workers.inference.calibrator`). One
that nobody used for long, or for which there is no room, is unloaded between two uses of it, and loaded again when it is asked for.
"""

import logging
import math
import queue
import threading
import time
import weakref
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from db.errors import TextmillError
from workers.arrays import Ids, Vectors
from workers.batches.activity import Activity
from workers.batches.batcher import Batcher, Watch
from workers.batches.outcomes import BatchReport, Load, OutOfMemory
from workers.engines.contract.decoding import DecoderEngine
from workers.engines.contract.engine import EncoderEngine
from workers.engines.contract.generation import GenerateRequest
from workers.engines.contract.plan import Plan
from workers.engines.loading import EngineSettings, choice_for, load_decoder, load_encoder, memory_of
from workers.inference.calibrator import Calibrator
from workers.inference.continuous import ContinuousBatcher
from workers.inference.decoder import Decoder
from workers.inference.duplicates import Duplicates
from workers.inference.encoder import Encoder
from workers.inference.memory import give_memory_back
from workers.models import registry
from workers.models.card import ModelCard
from workers.models.zero_shot import LabelSpace

if TYPE_CHECKING:
    from workers.engines.calibration.choice import Choice

Observe = Callable[[str, BatchReport], None]
Lanes: TypeAlias = "Batcher[Any, Any, Any] | ContinuousBatcher"


LET_GO_SECONDS: Final = 10.0  # what an unloaded model's last caller gets, before whoever unloads it goes on without waiting

LoadedT = TypeVar("LoadedT", Encoder, Decoder)
MadeT = TypeVar("MadeT")
log = logging.getLogger("textmill.engines")


class NoRoom(TextmillError):
    """A model does not fit the device beside those that are in use."""

    def __init__(self) -> None:
        super().__init__("The model does not fit the memory of this device beside those in use.", code="out_of_memory")


class Runtime:
    """One per process, called from all shards' threads. `observe(model_id, report)` is called after every micro-batch, `watch()` is
    entered while one runs, on the lane's thread, and `changed()` is called when `loaded`, `loading` or `calibrating` tells something else.
    `free_bytes()`: how much of the memory one more model may take."""

    def __init__(
        self,
        settings: EngineSettings,
        *,
        observe: Observe | None = None,
        watch: Watch = nullcontext,
        changed: Callable[[], object] = lambda: None,
        free_bytes: Callable[[], float] = lambda: math.inf,
    ) -> None:
        self._settings = settings
        self._observe = observe
        self._watch = watch
        self._free_bytes = free_bytes
        self._lock = threading.Lock()
        self._loading: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._encoders: dict[str, Encoder] = {}
        self._decoders: dict[str, Decoder] = {}
        self._retired: list[Lanes] = []  # of models whose place another has, or none, and that somebody may still use
        self._users: Counter[str] = Counter()  # of a model that may not be unloaded
        self._used_at: dict[str, float] = {}  # last, by model, of a monotonic clock
        self._duplicates = Duplicates()
        self._activity = Activity()
        self._changed = changed
        self._began_loading: dict[str, float] = {}  # by model, of a monotonic clock
        self._calibrator = Calibrator(self._activity, self._choice_for, self._swap, changed=changed)
        self._closed = False

    @property
    def loaded(self) -> list[str]:
        """The models that are held."""
        with self._lock:
            return sorted((*self._encoders, *self._decoders))

    @property
    def loading(self) -> tuple[str, float] | None:
        """The model that is being loaded longest, and for how many seconds."""
        with self._lock:
            began = min(self._began_loading.items(), key=lambda one: one[1], default=None)
        return None if began is None else (began[0], time.monotonic() - began[1])

    @property
    def calibrating(self) -> str | None:
        return self._calibrator.model

    def loads(self) -> dict[str, Load]:
        """By model: what each decoder here has under way."""
        with self._lock:
            decoders = dict(self._decoders)
        return {model_id: decoder.batcher.load() for model_id, decoder in decoders.items()}

    def hold_calibration(self, on_hold: bool) -> None:
        """Nothing is calibrated while it is on hold; it goes on afterwards."""
        self._calibrator.on_hold = on_hold
        self._activity.wake()

    def give_up_calibration(self) -> None:
        """For want of memory: a calibration holds several engines of a model at once."""
        self._calibrator.give_up()

    def load(self, model_id: str) -> None:
        """Returns once the model is ready, which takes seconds."""
        if registry.get(model_id).kind == "encoder":
            self.encoder(model_id)
        else:
            self.decoder(model_id)

    def warm(self, model_id: str) -> None:
        """Loads this model and runs it once, so that the first shard does not pay for it."""
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

    @contextmanager
    def using(self, model_id: str) -> Iterator[int]:
        """Loads the model if need be, and keeps it loaded while the block runs. Gives how many instances of it run at once."""
        with self._lock:
            self._users[model_id] += 1
        try:
            self.load(model_id)
            yield (self._encoders.get(model_id) or self._decoders[model_id]).batcher.lanes
        finally:
            with self._lock:
                self._users[model_id] -= 1
                self._used_at[model_id] = time.monotonic()

    def unload(self, idle_seconds: float, *, keep: Collection[str] = (), most: int | None = None) -> list[str]:
        """Lets go of the models that nobody used for so long, but for those to ``keep``: the least recently used first, ``most`` of them.

        What they held is given back to the system. None that somebody uses is among them. Returns which."""
        with self._lock:
            unused = [one for one in (*self._encoders, *self._decoders) if not self._users[one] and one not in keep]
            idle = sorted((self._used_at[one], one) for one in unused)
        before = time.monotonic() - idle_seconds
        gone = [one for used_at, one in idle if used_at <= before]
        gone = [one for one in gone[:most] if self._unload(one)]
        if gone:
            give_memory_back()
        return gone

    def _unload(self, model_id: str) -> bool:
        loading = self._loading[model_id]
        if not loading.acquire(blocking=False):
            return False
        try:
            with self._lock:
                if self._users[model_id] or self._closed:
                    return False
                loaded = self._encoders.pop(model_id, None) or self._decoders.pop(model_id, None)
            if loaded is None:
                return False
            self._calibrator.forget(model_id)
            ending = threading.Thread(target=self._end, args=self._retire(loaded), name=f"{model_id}-end", daemon=True)
            del loaded
            ending.start()
        finally:
            loading.release()
        ending.join(LET_GO_SECONDS)
        log.info("%s: unloaded", model_id)
        self._changed()
        return True

    def encoder(self, model_id: str) -> Encoder:
        card = registry.get(model_id)
        if card.kind != "encoder":
            raise TextmillError("This model does not embed or classify.", code="model_task_mismatch", status=400)
        with self._loading[model_id]:
            if model_id not in self._encoders:
                with self._tell_loading(model_id):
                    loaded = self._with_room(card, lambda: load_encoder(card, self._settings))
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
                    loaded = self._with_room(card, lambda: load_decoder(card, self._settings))
                    self._keep(self._decoders, model_id, self._decoder_of(model_id, loaded.engine, loaded.plan))
                if loaded.is_open:
                    self._calibrator.add(model_id, loaded.plan)
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

    def _decoder_of(self, model_id: str, engine: DecoderEngine, plan: Plan) -> Decoder:
        batcher = ContinuousBatcher(
            [engine.slots() for _ in range(plan.lanes)],
            name=model_id,
            budget_tokens=plan.policy.budget_tokens,
            observe=self._observer(model_id),
            watch=self._watch,
            activity=self._activity,
        )
        return Decoder(engine, batcher)

    def _choice_for(self, model_id: str) -> "Choice[Any]":
        return choice_for(registry.get(model_id), self._settings)

    def _swap(self, model_id: str, engine: Any, plan: Plan) -> None:
        if registry.get(model_id).kind == "encoder":
            self._put_in(self._encoders, model_id, lambda: self._encoder_of(model_id, engine, plan))
        else:
            self._put_in(self._decoders, model_id, lambda: self._decoder_of(model_id, engine, plan))

    def _put_in(self, loaded: dict[str, LoadedT], model_id: str, make: Callable[[], LoadedT]) -> None:
        """Whoever asks for the model from now on gets this one. Returns when nobody has the one before and its lanes have ended."""
        with self._loading[model_id]:
            before = loaded.get(model_id)
            if before is None:  # it was unloaded meanwhile
                return
            retired = self._retire(before)
            self._keep(loaded, model_id, make())
            del before
        self._end(*retired)

    def _with_room(self, card: ModelCard, load: Callable[[], MadeT]) -> MadeT:
        """Where there is no room for one more model, those go that nobody uses: as many as it is likely to need, the least recently used
        first; and all of them where the device had none for it. What is only likely refuses nothing."""
        needed = memory_of(card, self._settings)
        while needed > self._free_bytes() and self.unload(0.0, most=1):
            pass
        try:
            return load()
        except (OutOfMemory, MemoryError):
            if not self.unload(0.0):
                raise NoRoom from None
        try:
            return load()
        except (OutOfMemory, MemoryError):
            raise NoRoom from None

    def _retire(self, loaded: Encoder | Decoder) -> tuple[Lanes, "queue.SimpleQueue[None]"]:
        """Of a model that nobody gets from now on: its batcher, and what tells when nobody has it any more."""
        let_go: queue.SimpleQueue[None] = queue.SimpleQueue()  # a finalizer runs anywhere: of what wakes a thread, only this takes no lock
        weakref.finalize(loaded, let_go.put, None).atexit = False
        with self._lock:
            self._retired.append(loaded.batcher)
        return loaded.batcher, let_go

    def _end(self, batcher: Lanes, let_go: "queue.SimpleQueue[None]") -> None:
        """Returns when nobody has the model and its lanes have ended."""
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
            self._used_at[model_id] = time.monotonic()
            closed = self._closed
        if closed:
            one.batcher.stop(drain=False)

    def _observer(self, model_id: str) -> Callable[[BatchReport], None] | None:
        observe = self._observe
        return None if observe is None else lambda report: observe(model_id, report)
