from workers.batches.activity import Activity, Busy
from workers.batches.policy import Work


def test_activity_counts_calls_by_their_kind_and_the_time_without_any() -> None:
    now = [100.0]
    activity = Activity(lambda: now[0])
    now[0] += 7
    assert activity.now == Busy(0, 0, 7.0)
    activity.enter(Work.BULK)
    activity.enter(Work.INTERACTIVE)
    now[0] += 1
    assert (activity.now, activity.somebody_waits) == (Busy(1, 1, 0.0), True)
    activity.leave(Work.INTERACTIVE)
    assert (activity.now, activity.somebody_waits) == (Busy(0, 1, 0.0), False)
    activity.leave(Work.BULK)
    now[0] += 2
    assert activity.now == Busy(0, 0, 2.0)


def test_a_call_that_came_and_went_since_a_mark_is_noticed() -> None:
    activity = Activity()
    mark = activity.mark()
    assert activity.quiet_since(mark)
    activity.enter(Work.BULK)
    assert not activity.quiet_since(activity.mark())
    activity.leave(Work.BULK)
    assert not activity.quiet_since(mark)
    assert activity.quiet_since(activity.mark())
