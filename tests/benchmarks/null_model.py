"""The system without a model: documents a second through all of it, against plain Celery with a task for every document.

Both use the same deterministic engine, the same Valkey and the same texts. Plain Celery may choose its pool: the faster of the two in a
short trial runs in the turns. What it does not do, the mill does meanwhile: it stores, seals and records every document, and answers.
"""

from collections.abc import Callable
from contextlib import ExitStack

from db.settings import StoreSettings
from tests.benchmarks.end_to_end import measure_whole
from tests.benchmarks.mill import NULL_MODEL, Mill
from tests.benchmarks.plain_celery import PlainWorker
from tests.benchmarks.turns import Series, in_turns
from tests.benchmarks.workloads import many

ROWS = 20_000
PLAIN_ROWS = 3_000  # several seconds of it
TRIAL_ROWS = 600
WARM_UPS = 3  # until the dispatcher sizes shards by what it measured, as it does in all but the first seconds of a model
POOLS = (("prefork", 2), ("threads", 4))


def measure_null_model(
    mill: Mill, *, turns: int, allowance_seconds: float, say: Callable[[str], None], rows: int | None = None
) -> dict[str, Series]:
    """``whole`` and ``plain``. ``rows``: in place of the usual numbers of them."""
    texts = many("Q1", rows or ROWS)
    broker_url = StoreSettings(home=mill.home).broker_url()
    with ExitStack() as held:
        tried = {}
        for pool, concurrency in POOLS:
            with PlainWorker(broker_url, pool, concurrency) as worker:
                worker.measure(texts.texts[:TRIAL_ROWS])
                tried[pool, concurrency] = worker.measure(texts.texts[:TRIAL_ROWS]).rate
                say(f"  trial: {worker.name} {tried[pool, concurrency]:,.0f} documents/s")
        worker = held.enter_context(PlainWorker(broker_url, *max(tried, key=tried.__getitem__)))
        worker.measure(texts.texts[:TRIAL_ROWS])
        for _ in range(WARM_UPS):
            measure_whole(mill, texts, NULL_MODEL)
        runs = {
            "whole": lambda: measure_whole(mill, texts, NULL_MODEL),
            "plain": lambda: worker.measure(texts.texts[:PLAIN_ROWS]),
        }
        return in_turns(runs, turns=turns, allowance_seconds=allowance_seconds, say=say)
