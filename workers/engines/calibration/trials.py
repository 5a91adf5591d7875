"""One engine over texts in memory, on all lanes: what it answers, and how fast. The measuring half of calibration."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from workers.arrays import Ids, Vectors
from workers.batches.policy import cut
from workers.engines.calibration.held_texts import SUBJECTS
from workers.engines.contract.engine import EncoderEngine
from workers.models import zero_shot

CHECK_BUDGET: Final = 512  # tokens a batch where only the answers count
MAX_ROWS: Final = 512

T = TypeVar("T")


def probabilities(engine: EncoderEngine, texts: Sequence[str], lanes: int) -> NDArray[np.float32]:
    """[n, labels]: what a job would be answered, by the model's own labels or by the subjects of the held texts."""
    answers = run_all(engine, [tokens.ids for tokens in engine.tokenize(texts)], lanes)
    if engine.labels:
        return zero_shot.softmax(answers)
    forms = [tokens.ids for tokens in engine.tokenize(zero_shot.written(SUBJECTS, zero_shot.TEMPLATES))]
    made = zero_shot.prototypes(run_all(engine, forms, lanes), len(zero_shot.TEMPLATES))
    return zero_shot.probabilities(answers, made)


def run_all(engine: EncoderEngine, work: Sequence[Ids], lanes: int, budget_tokens: int = CHECK_BUDGET) -> Vectors:
    """[n, dimensions], in the order given."""
    answers: Vectors = np.zeros((len(work), engine.dimensions), np.float32)

    def run(batch: list[int]) -> None:
        answers[batch] = engine.run(engine.prepare([work[index] for index in batch]))

    _on_lanes(lanes, _batches(engine, work, budget_tokens), run, seconds=None)
    return answers


def tokens_per_second(engine: EncoderEngine, work: Sequence[Ids], lanes: int, budget_tokens: int, seconds: float) -> float:
    """Without padding, with all lanes busy for about that long. Batches are prepared beforehand, as the feeder does in a worker."""
    ready = [
        (engine.prepare([work[index] for index in batch]), sum(len(work[index]) for index in batch))
        for batch in _batches(engine, work, budget_tokens)
    ]
    # By turns from all lengths, so that a short trial does not see only one of them.
    ready = [batch for first in range(7) for batch in ready[first::7]]
    done: list[int] = []

    def run(batch: tuple[object, int]) -> None:
        engine.run(batch[0])
        done.append(batch[1])

    _on_lanes(lanes, ready[:lanes], run, seconds=None)  # a first run allocates
    done.clear()
    took = _on_lanes(lanes, ready, run, seconds=seconds)
    return sum(done) / took


def _batches(engine: EncoderEngine, work: Sequence[Ids], budget_tokens: int) -> list[list[int]]:
    """As the micro-batcher cuts them, with all the work in one window."""
    return cut([len(ids) for ids in work], budget_tokens, padded=engine.padded, max_rows=MAX_ROWS)


def _on_lanes(lanes: int, batches: Sequence[T], run: Callable[[T], None], *, seconds: float | None) -> float:
    """Runs the batches on so many threads: once each, or over and over until the time is up. Returns the seconds it took.

    Raises what a run raised first."""
    waiting: queue.SimpleQueue[T] = queue.SimpleQueue()
    for batch in batches:
        waiting.put(batch)
    began = time.perf_counter()
    failed: list[Exception] = []

    def lane() -> None:
        try:
            while not failed and (seconds is None or time.perf_counter() - began < seconds):
                batch = waiting.get_nowait()
                run(batch)
                if seconds is not None:
                    waiting.put(batch)
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
