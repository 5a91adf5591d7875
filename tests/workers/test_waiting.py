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
    assert sorted(taken, key=lambda row: (row[2], row[1])) == [
        (length or 1, index, call) for call, lengths in enumerate(calls) for index, length in enumerate(lengths)
    ]


@given(CALLS, POLICIES)
def test_a_batch_is_never_empty_and_passes_the_budget_only_with_one_single_row(calls: list[list[int]], policy: Policy) -> None:
    for batch in everything(waiting_rows(policy, calls), policy):
        assert 1 <= len(batch) <= policy.max_rows
        assert len(batch) == 1 or cost_tokens([row[0] for row in batch], padded=policy.padded) <= policy.budget_tokens


@given(CALLS, POLICIES)
def test_the_oldest_row_goes_with_the_next_batch(calls: list[list[int]], policy: Policy) -> None:
    oldest = [(call, index) for call, lengths in enumerate(calls) for index in range(len(lengths))]
    waiting = waiting_rows(policy, calls)
    while waiting:
        batch = {(row[2], row[1]) for row in waiting.take(policy.budget_tokens, idle_lanes=0)}
        assert oldest[0] in batch
        oldest = [row for row in oldest if row not in batch]


@given(CALLS, POLICIES)
def test_rows_put_back_are_the_oldest_again(calls: list[list[int]], policy: Policy) -> None:
    waiting = waiting_rows(policy, calls)
    if waiting:
        batch = waiting.take(policy.budget_tokens, idle_lanes=0)
        waiting.put_back(batch)
        assert len(waiting) == sum(map(len, calls))
        assert batch[0] in waiting.take(policy.budget_tokens, idle_lanes=0)


@given(CALLS, POLICIES, st.sets(st.integers(0, 5)))
def test_dropped_calls_leave_only_the_rows_of_the_others(calls: list[list[int]], policy: Policy, dropped: set[int]) -> None:
    waiting = waiting_rows(policy, calls)
    if waiting:
        waiting.put_back(waiting.take(policy.budget_tokens, idle_lanes=0))
    waiting.drop(dropped)
    left = {row[2] for batch in everything(waiting, policy) for row in batch}
    assert left == {call for call, lengths in enumerate(calls) if lengths} - dropped


def test_clearing_says_what_waited() -> None:
    waiting = waiting_rows(Policy(budget_tokens=10, padded=False, window_rows=2), [[1, 2], [3, 4]])
    waiting.put_back(waiting.take(1, idle_lanes=0))
    assert sorted(waiting.clear()) == [(1, 0, 0), (2, 1, 0), (3, 0, 1), (4, 1, 1)]
    assert not waiting
    assert waiting.take(10, idle_lanes=0) == []
