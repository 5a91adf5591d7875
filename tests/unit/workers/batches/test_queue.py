import itertools
from collections.abc import Hashable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.batches.policy import Policy, cost_tokens
from workers.batches.queue import Row, Waiting

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
def test_every_row_is_taken_once_and_the_turns_of_one_owner_are_by_arrival(calls: list[list[int]], policy: Policy) -> None:
    waiting = waiting_rows(policy, calls)
    assert len(waiting) == sum(map(len, calls))
    taken = sorted([row for batch in everything(waiting, policy) for row in batch], key=lambda row: row[1])
    assert [(length, index, call) for length, _, index, call in taken] == [
        (length or 1, index, call) for call, lengths in enumerate(calls) for index, length in enumerate(lengths)
    ]


def turns_of(calls: list[list[int]]) -> list[int]:
    """The tags of one owner's rows: each begins where the one before it ended."""
    return list(itertools.accumulate([length or 1 for lengths in calls for length in lengths][:-1], initial=0)) if any(calls) else []


@given(CALLS, POLICIES)
def test_a_batch_is_never_empty_and_passes_the_budget_only_with_one_single_row(calls: list[list[int]], policy: Policy) -> None:
    for batch in everything(waiting_rows(policy, calls), policy):
        assert 1 <= len(batch) <= policy.max_rows
        assert len(batch) == 1 or cost_tokens([row[0] for row in batch], padded=policy.padded) <= policy.budget_tokens


@given(CALLS, POLICIES)
def test_the_oldest_row_goes_with_the_next_batch(calls: list[list[int]], policy: Policy) -> None:
    waiting = waiting_rows(policy, calls)
    left = set(turns_of(calls))
    while waiting:
        batch = {row[1] for row in waiting.take(policy.budget_tokens, idle_lanes=0)}
        assert min(left) in batch
        left -= batch


@given(CALLS, POLICIES)
def test_no_batch_reaches_further_ahead_than_the_window(calls: list[list[int]], policy: Policy) -> None:
    waiting = waiting_rows(policy, calls)
    left = turns_of(calls)
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


OWNED = st.lists(st.tuples(st.sampled_from("abc"), st.lists(st.integers(1, 300), min_size=1, max_size=40)), max_size=8)
Owned = list[tuple[str, list[int]]]


def owned_rows(
    policy: Policy, calls: Owned, taken_between: list[int] | None = None
) -> tuple[Waiting[tuple[str, int]], list[Row[tuple[str, int]]]]:
    """Calls of several owners, and what was taken while they came."""
    waiting: Waiting[tuple[str, int]] = Waiting(policy, lambda call: call[0])
    taken: list[Row[tuple[str, int]]] = []
    for number, (owner, lengths) in enumerate(calls):
        waiting.add(lengths, (owner, number))
        for _ in range((taken_between or [0] * len(calls))[number % len(taken_between or calls)]):
            taken += waiting.take(policy.budget_tokens, idle_lanes=0)
    return waiting, taken


@given(OWNED, POLICIES, st.lists(st.integers(0, 2), min_size=1, max_size=8))
def test_every_row_of_several_owners_is_taken_once(calls: Owned, policy: Policy, taken_between: list[int]) -> None:
    waiting, taken = owned_rows(policy, calls, taken_between)
    assert len(waiting) + len(taken) == sum(len(lengths) for _, lengths in calls)
    while waiting:
        batch = waiting.take(policy.budget_tokens, idle_lanes=0)
        assert batch
        taken += batch
    assert sorted((row[3][1], row[2], row[0]) for row in taken) == [
        (number, index, length) for number, (_, lengths) in enumerate(calls) for index, length in enumerate(lengths)
    ]


@given(OWNED, POLICIES)
def test_of_one_owner_no_row_has_its_turn_before_an_older_one(calls: Owned, policy: Policy) -> None:
    waiting, taken = owned_rows(policy, calls)
    while waiting:
        taken += waiting.take(policy.budget_tokens, idle_lanes=0)
    for owner in "abc":
        own = sorted((row for row in taken if row[3][0] == owner), key=lambda row: row[1])
        assert [(row[3][1], row[2]) for row in own] == sorted((row[3][1], row[2]) for row in own)


def test_two_owners_share_every_batch_by_tokens() -> None:
    policy = Policy(budget_tokens=160, padded=False)
    waiting, _ = owned_rows(policy, [("many", [10] * 400), ("many", [10] * 400), ("few", [20] * 12)])
    tokens = {"many": 0, "few": 0}
    for _ in range(3):
        for length, _, _, (owner, _) in waiting.take(160, idle_lanes=0):
            tokens[owner] += length
    assert tokens["few"] == pytest.approx(240, abs=40), "three batches of 160 tokens, and half of them"


def test_who_comes_new_does_not_wait_for_what_was_planned() -> None:
    policy = Policy(budget_tokens=80, padded=False)
    waiting, _ = owned_rows(policy, [("many", [10] * 1000)])
    waiting.take(80, idle_lanes=0)
    waiting.add([10] * 4, ("few", 1))
    soon = [row for _ in range(2) for row in waiting.take(80, idle_lanes=0)]
    assert sum(row[3][0] == "few" for row in soon) == 4


@pytest.mark.parametrize("piece_rows", [1, 16, 64, 256])
@pytest.mark.parametrize("others", [1, 5])
@pytest.mark.parametrize("length", [8, 128, 500])
def test_every_tenant_gets_its_share_however_the_others_bring_their_rows(piece_rows: int, others: int, length: int) -> None:
    """The others hand in more as soon as a piece of theirs is done, and hold four pieces each; rows of one are long, or short."""
    policy = Policy(budget_tokens=512, padded=False)
    waiting: Waiting[tuple[str, int]] = Waiting(policy, lambda call: call[0])
    names = [f"large {number}" for number in range(others)]
    held = dict.fromkeys(names, 0)
    number = itertools.count()

    def top_up() -> None:
        for name in names:
            while held[name] <= 3 * piece_rows:
                waiting.add([16] * piece_rows, (name, next(number)))
                held[name] += piece_rows

    def run_batch() -> int:
        """Tokens."""
        batch = waiting.take(policy.budget_tokens, idle_lanes=0)
        for row in batch:
            if row[3][0] in held:
                held[row[3][0]] -= 1
        top_up()
        return sum(row[0] for row in batch)

    top_up()
    for _ in range(20):
        run_batch()
    rows = 30
    waiting.add([length] * rows, ("small", -1))
    tokens = 0
    while any(row[3][0] == "small" for rows in (*waiting._planned, *waiting._backlog.values()) for row in rows):
        tokens += run_batch()
        assert tokens <= 1.25 * (others + 1) * rows * length + 3 * policy.budget_tokens, (
            "its share, and the batches it may have just missed"
        )


@pytest.mark.parametrize("jobs", [2, 4, 8])
@pytest.mark.parametrize("piece_rows", [16, 200])
def test_a_tenant_of_many_jobs_gets_no_more_than_one_of_one_job(jobs: int, piece_rows: int) -> None:
    policy = Policy(budget_tokens=512, padded=False)
    waiting: Waiting[tuple[str, int, int]] = Waiting(policy, lambda call: call[0], lambda call: call[1])
    held = {("one", 0): 0, **{("many", job): 0 for job in range(jobs)}}
    tokens = {"one": 0, "many": 0}
    number = itertools.count()
    for batch in range(240):
        for (owner, job), rows in held.items():
            if rows <= piece_rows:
                waiting.add([16] * piece_rows, (owner, job, next(number)))
                held[owner, job] += piece_rows
        for length, _, _, (owner, job, _) in waiting.take(512, idle_lanes=0):
            held[owner, job] -= 1
            tokens[owner] += length if batch >= 120 else 0  # of what was brought when all were there
    assert tokens["many"] == pytest.approx(tokens["one"], rel=0.25)


def test_a_large_job_goes_on_while_small_ones_of_its_tenant_come_all_the_time() -> None:
    policy = Policy(budget_tokens=80, padded=False)
    waiting: Waiting[tuple[str, int]] = Waiting(policy, lambda _call: "tenant", lambda call: call)
    waiting.add([10] * 200, ("large", 0))
    of_large = 0
    for number in range(25):
        waiting.add([10] * 8, ("small", number))
        of_large += sum(row[3][0] == "large" for row in waiting.take(80, idle_lanes=0))
    assert of_large >= 25 * 8 // 4


def test_a_row_keeps_its_turn_while_another_owner_brings_new_ones_all_the_time() -> None:
    policy = Policy(budget_tokens=1024, padded=False)
    waiting, _ = owned_rows(policy, [("one", [128]), ("many", [16] * 64)])
    taken: list[Row[tuple[str, int]]] = []
    for number in range(4):
        taken += waiting.take(1024, idle_lanes=0)
        waiting.add([16] * 64, ("many", number + 2))
    assert any(row[3][0] == "one" for row in taken)


def test_what_a_tenant_did_alone_is_not_held_against_it() -> None:
    policy = Policy(budget_tokens=400, padded=False)
    waiting, _ = owned_rows(policy, [("a", list(range(1, 201)))])
    while waiting:
        waiting.take(400, idle_lanes=0)
    for number in range(1, 5):
        waiting.add([10] * 100, ("a", number))
        waiting.add([10] * 100, ("b", number))
    tokens = {"a": 0, "b": 0}
    for _ in range(4):
        for length, _, _, (owner, _) in waiting.take(400, idle_lanes=0):
            tokens[owner] += length
    assert tokens["a"] == pytest.approx(tokens["b"], rel=0.1)


def test_turns_of_dropped_rows_are_given_back() -> None:
    policy = Policy(budget_tokens=80, padded=False)
    waiting, _ = owned_rows(policy, [("a", [10] * 1000), ("b", [10] * 1000)])
    waiting.drop({("a", 0)})
    waiting.add([10] * 8, ("a", 2))
    soon = [row for _ in range(3) for row in waiting.take(80, idle_lanes=0)]
    assert sum(row[3] == ("a", 2) for row in soon) == 8


def test_idle_lanes_share_what_waits() -> None:
    waiting = waiting_rows(Policy(budget_tokens=1000, padded=True), [[10] * 8])
    assert [len(waiting.take(1000, idle_lanes=idle)) for idle in (2, 1)] == [4, 4]


def test_clearing_says_whose_rows_waited() -> None:
    waiting = waiting_rows(Policy(budget_tokens=10, padded=False, window_rows=2), [[1, 2], [3, 4]])
    waiting.put_back(waiting.take(1, idle_lanes=0))
    assert waiting.clear() == {0, 1}
    assert not waiting
    assert waiting.take(10, idle_lanes=0) == []
