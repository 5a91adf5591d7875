import threading

from workers.host.watchdog import EX_HANG, Watchdog


class Watched:
    def __init__(self) -> None:
        self.now = 0.0
        self.ended: list[int] = []
        self.dog = Watchdog(10, clock=lambda: self.now, end=self.ended.append)

    def after(self, seconds: float) -> list[int]:
        self.now += seconds
        self.dog.check()
        return self.ended


def test_a_call_without_a_batch_for_too_long_ends_the_process() -> None:
    watched = Watched()
    with watched.dog.watch():
        assert watched.after(10) == []
        assert watched.after(1) == [EX_HANG]


def test_batches_that_end_keep_it_alive() -> None:
    watched = Watched()
    with watched.dog.watch():
        for _ in range(5):
            assert watched.after(9) == []
            with watched.dog.batch():
                assert watched.after(9) == []


def test_a_batch_that_hangs_ends_the_process_whatever_the_other_lanes_do() -> None:
    watched = Watched()
    with watched.dog.watch(), watched.dog.batch():  # of the lane that hangs

        def other_lane() -> None:
            with watched.dog.batch():
                watched.now += 6

        for _ in range(2):
            lane = threading.Thread(target=other_lane)
            lane.start()
            lane.join()
        watched.dog.check()
    assert watched.ended == [EX_HANG]


def test_an_idle_worker_does_not_hang() -> None:
    watched = Watched()
    with watched.dog.watch():
        pass
    assert watched.after(1000) == []
    with watched.dog.watch():
        assert watched.after(9) == []
