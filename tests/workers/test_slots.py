import threading

from workers.slots import Slots


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
