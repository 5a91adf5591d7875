import threading

from db.queue.shards import Kept
from workers.claims.slots import Slots


def test_no_more_slots_are_taken_than_there_are() -> None:
    slots = Slots(2)
    assert slots.take()
    assert slots.take_idle() == 1
    assert slots.take_idle() == 0


def test_a_waiting_thread_gets_the_slot_that_is_given_back() -> None:
    slots = Slots(1)
    slots.take()
    got = threading.Event()
    waiting = threading.Thread(target=lambda: slots.take() and got.set())
    waiting.start()
    slots.give()
    waiting.join(5)
    assert got.is_set()


def test_closing_sends_the_waiting_away_empty_handed() -> None:
    slots = Slots(1)
    slots.take()
    answers: list[bool] = []
    waiting = threading.Thread(target=lambda: answers.append(slots.take()))
    waiting.start()
    slots.close()
    waiting.join(5)
    assert answers == [False]
    assert slots.take_idle() == 0
    assert not slots.wait_all_free(0)
    slots.give()
    assert slots.wait_all_free(5)


def test_kept_slots_are_apart_from_the_others() -> None:
    slots = Slots(2, {Kept.INTERACTIVE: 1})
    assert slots.take_idle() == 2
    assert slots.take_kept(Kept.INTERACTIVE) == 1
    assert (slots.take_idle(), slots.take_kept(Kept.INTERACTIVE)) == (0, 0)
    slots.give_kept(Kept.INTERACTIVE)
    assert (slots.take_idle(), slots.take_kept(Kept.INTERACTIVE)) == (0, 1)


def test_a_slot_kept_for_newcomers_is_given_out_where_no_other_is_free() -> None:
    slots = Slots(1, {Kept.NEWCOMER: 1})
    assert slots.take_kept(Kept.NEWCOMER) == 0
    slots.take()
    assert slots.take_kept(Kept.NEWCOMER) == 1


def test_all_is_free_only_when_the_kept_slots_are_too() -> None:
    slots = Slots(1, {Kept.INTERACTIVE: 1})
    assert slots.wait_all_free(0)
    slots.take_kept(Kept.INTERACTIVE)
    assert not slots.wait_all_free(0)
    slots.give_kept(Kept.INTERACTIVE)
    assert slots.wait_all_free(0)


def test_closed_slots_are_not_given_out_kept_or_not() -> None:
    slots = Slots(1, {Kept.INTERACTIVE: 1})
    slots.close()
    assert (slots.take_idle(), slots.take_kept(Kept.INTERACTIVE)) == (0, 0)


def test_slots_that_are_opened_again_are_given_out_again() -> None:
    slots = Slots(2, {Kept.INTERACTIVE: 1})
    slots.take()
    slots.close()
    assert not slots.take()
    slots.open()
    assert slots.take()
    assert slots.take_kept(Kept.INTERACTIVE) == 1
