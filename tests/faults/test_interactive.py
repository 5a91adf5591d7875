"""A small job that somebody waits for, beside bulk that has every slot: real processes, real store, real broker."""

from db.lifecycle import INTERACTIVE_PRIORITY, PART_ROWS
from tests.faults.house import House, texts


def test_an_interactive_job_is_done_while_bulk_holds_every_slot(house: House) -> None:
    bulk_texts, texts_waited_for = texts(PART_ROWS), texts(16)
    bulk = house.submit(bulk_texts)
    house.start_dispatcher(TEXTMILL_SHARD_SECONDS="3600")
    house.start_worker(delay_ms=32, TEXTMILL_THREADS="1", TEXTMILL_LANES="1")
    house.wait_done(bulk, 1)
    assert len(house.shards(bulk)) == 1, "one shard holds the only slot until all of it is done"
    urgent = house.submit(texts_waited_for, priority=INTERACTIVE_PRIORITY)
    house.wait_completed(urgent)
    assert house.done_count(bulk) < len(bulk_texts)
    house.wait_completed(bulk)
    house.check_results(urgent, texts_waited_for)
    house.check_results(bulk, bulk_texts)
