from collections.abc import Hashable

from hypothesis import given
from hypothesis import strategies as st

from workers.batching import Policy, cost_tokens
from workers.waiting import Row, Waiting

CALLS = st.lists(st.lists(st.integers(0, 300), max_size=40), max_size=6)
POLICIES = st.builds(
    Policy, budget_tokens=st.integers(1, 600), padded=st.booleans(), max_rows=st.integers(1, 16), window_rows=st.integers(1, 32)
)


def waiting_rows(policy: Policy, calls: list[list[int]]) -> Waiting[Hashable]:
    waiting: Waiting[Hashable] = Waiting(policy)
    for call, lengths in enumerate(calls):
        waiting.add(lengths, call)
    return waiting


def everything(waiting: Waiting[Hashable], policy: Policy) -> list[list[Row[Hashable]]]:
    batches = []
    while waiting:
        batches.append(waiting.take(policy.budget_tokens, idle_lanes=0))
    return batches


@given(CALLS, POLICIES)
def test_every_row_is_taken_once(calls: list[list[int]], policy: Policy) -> None:
    waiting = waiting_rows(policy, calls)
    assert len(waiting) == sum(map(len, calls))
    taken = [row for batch in everything(waiting, policy) for row in batch]
    assert sorted((row[1], row[0], row[2], row[3]) for row in taken) == [
        (number, length or 1, index, call)
        for number, (call, index, length) in enumerate(
            (call, index, length) for call, lengths in enumerate(calls) for index, length in enumerate(lengths)
        )
    ]


@given(CALLS, POLICIES)
def test_a_batch_is_never_empty_and_passes_the_budget_only_with_one_single_row(calls: list[list[int]], policy: Policy) -> None:
    for batch in everything(waiting_rows(policy, calls), policy):
        assert 1 <= len(batch) <= policy.max_rows
        assert len(batch) == 1 or cost_tokens([row[0] for row in batch], padded=policy.padded) <= policy.budget_tokens


@given(CALLS, POLICIES)
def test_the_oldest_row_goes_with_the_next_batch(calls: list[list[int]], policy: Policy) -> None:
    waiting = waiting_rows(policy, calls)
    left = set(range(len(waiting)))
    while waiting:
        batch = {row[1] for row in waiting.take(policy.budget_tokens, idle_lanes=0)}
        assert min(left) in batch
        left -= batch


@given(CALLS, POLICIES)
def test_no_batch_reaches_further_ahead_than_the_window(calls: list[list[int]], policy: Policy) -> None:
    waiting = waiting_rows(policy, calls)
    left = list(range(len(waiting)))
    while waiting:
        batch = {row[1] for row in waiting.take(policy.budget_tokens, idle_lanes=0)}
        assert batch <= set(left[: policy.window_rows])
        left = [number for number in left if number not in batch]


@given(CALLS, CALLS, POLICIES)
def test_rows_put_back_keep_their_age(calls: list[list[int]], later: list[list[int]], policy: Policy) -> None:
    waiting = waiting_rows(policy, calls)
    if waiting:
        batch = waiting.take(policy.budget_tokens, idle_lanes=0)
        waiting.put_back(batch)
        assert len(waiting) == sum(map(len, calls))
        for call, lengths in enumerate(later, start=len(calls)):
            waiting.add(lengths, call)
        oldest = min(batch, key=lambda row: row[1])
        assert oldest in waiting.take(policy.budget_tokens, idle_lanes=0)


@given(CALLS, POLICIES, st.sets(st.integers(0, 5)))
def test_dropped_calls_leave_only_the_rows_of_the_others(calls: list[list[int]], policy: Policy, dropped: set[int]) -> None:
    waiting = waiting_rows(policy, calls)
    if waiting:
        waiting.put_back(waiting.take(policy.budget_tokens, idle_lanes=0))
    waiting.drop(dropped)
    left = {row[3] for batch in everything(waiting, policy) for row in batch}
    assert left == {call for call, lengths in enumerate(calls) if lengths} - dropped


def test_a_smaller_budget_holds_from_the_next_batch_on() -> None:
    waiting = waiting_rows(Policy(budget_tokens=100, padded=False), [[10] * 40])
    assert len(waiting.take(100, idle_lanes=0)) == 10
    assert len(waiting.take(50, idle_lanes=0)) == 5


def test_idle_lanes_share_what_waits() -> None:
    waiting = waiting_rows(Policy(budget_tokens=1000, padded=True), [[10] * 8])
    assert [len(waiting.take(1000, idle_lanes=idle)) for idle in (2, 1)] == [4, 4]


def test_clearing_says_whose_rows_waited() -> None:
    waiting = waiting_rows(Policy(budget_tokens=10, padded=False, window_rows=2), [[1, 2], [3, 4]])
    waiting.put_back(waiting.take(1, idle_lanes=0))
    assert waiting.clear() == {0, 1}
    assert not waiting
    assert waiting.take(10, idle_lanes=0) == []
