"""One engine over texts in memory, on all lanes: what it answers, and how fast. The measuring half of calibration.

What takes long is a generator that yields between two slices (see :mod:`workers.engines.calibration.slices`); its value is what it returns.
"""

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from workers.arrays import Ids, Vectors
from workers.batches.activity import Activity
from workers.batches.policy import cut
from workers.engines.calibration.held_texts import SUBJECTS
from workers.engines.contract.engine import EncoderEngine
from workers.models import zero_shot

CHECK_BUDGET: Final = 512  # tokens a batch where only the answers count
MAX_ROWS: Final = 512
SLICE_SECONDS: Final = 0.5
# Of the CPU time that so many threads could have had: what a trial gets at least where nothing else runs on the machine.
LEAST_CPU_SHARE: Final = 0.8

T = TypeVar("T")
Slices = Generator[None, None, T]


@dataclass(frozen=True, slots=True)
class Timing:
    """``disturbed``: rows of the process's own work ran meanwhile, or others on the machine took its cores."""

    tokens_per_second: float
    disturbed: bool


def probabilities(engine: EncoderEngine, texts: Sequence[str], lanes: int, activity: Activity) -> Slices[NDArray[np.float32]]:
    """[n, labels]: what a job would be answered, by the model's own labels or by the subjects of the held texts."""
    answers, _ = yield from run_all(engine, engine.tokenize(texts)[0], lanes, activity)
    if engine.labels:
        return zero_shot.softmax(answers)
    forms = engine.tokenize(zero_shot.written(SUBJECTS, zero_shot.TEMPLATES))[0]
    described, _ = yield from run_all(engine, forms, lanes, activity)
    return zero_shot.probabilities(answers, zero_shot.prototypes(described, len(zero_shot.TEMPLATES)))


def run_all(engine: EncoderEngine, work: Sequence[Ids], lanes: int, activity: Activity) -> Slices[tuple[Vectors, float]]:
    """[n, dimensions], in the order given, and the seconds that it ran. A slice ends early where somebody waits."""
    answers: Vectors = np.zeros((len(work), engine.dimensions), np.float32)

    def run(batch: list[int]) -> None:
        answers[batch] = engine.run(engine.prepare([work[index] for index in batch]))

    waiting = queued(_batches(engine, work, CHECK_BUDGET))
    seconds = 0.0
    while not waiting.empty():
        seconds += on_lanes(lanes, waiting, run, until=over(SLICE_SECONDS, activity))
        yield
    return answers, seconds


def timed(
    engine: EncoderEngine, work: Sequence[Ids], lanes: int, budget_tokens: int, seconds: float, activity: Activity, *, threads: int = 1
) -> Timing:
    """Without padding, with all lanes busy for about that long: one slice. Batches are prepared beforehand, as the feeder does in a worker.

    ``threads``: of each lane."""
    ready: list[tuple[object, int]] = [
        (engine.prepare([work[index] for index in batch]), sum(len(work[index]) for index in batch))
        for batch in _batches(engine, work, budget_tokens)
    ]
    # By turns from all lengths, so that a short trial does not see only one of them.
    ready = [batch for first in range(7) for batch in ready[first::7]]
    on_lanes(lanes, queued(ready[:lanes]), lambda batch: engine.run(batch[0]), until=lambda: False)  # a first run allocates
    waiting = queued(ready)
    done: list[int] = []

    def run(batch: tuple[object, int]) -> None:
        engine.run(batch[0])
        done.append(batch[1])
        waiting.put(batch)

    mark, cpu = activity.mark(), time.process_time()
    took = on_lanes(lanes, waiting, run, until=over(seconds, activity))
    cpu_share = (time.process_time() - cpu) / (took * lanes * threads)
    return Timing(sum(done) / took, cpu_share < LEAST_CPU_SHARE or not activity.quiet_since(mark))


def over(seconds: float, activity: Activity) -> Callable[[], bool]:
    end = time.perf_counter() + seconds
    return lambda: activity.somebody_waits or time.perf_counter() >= end


def queued(ready: Iterable[T]) -> "queue.SimpleQueue[T]":
    waiting: queue.SimpleQueue[T] = queue.SimpleQueue()
    for one in ready:
        waiting.put(one)
    return waiting


def _batches(engine: EncoderEngine, work: Sequence[Ids], budget_tokens: int) -> list[list[int]]:
    """As the micro-batcher cuts them, with all the work in one window."""
    return cut([len(ids) for ids in work], budget_tokens, padded=engine.padded, max_rows=MAX_ROWS)


def on_lanes(lanes: int, waiting: "queue.SimpleQueue[T]", run: Callable[[T], object], *, until: Callable[[], bool]) -> float:
    """Runs what waits on so many threads, to the end or until it is time; one batch at least. Returns the seconds it took.

    Raises what a run raised first."""
    began = time.perf_counter()
    failed: list[Exception] = []

    def lane() -> None:
        try:
            while not failed:
                run(waiting.get_nowait())
                if until():
                    return
        except queue.Empty:
            return
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=lane, name=f"calibration-lane-{number}") for number in range(lanes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return time.perf_counter() - began
