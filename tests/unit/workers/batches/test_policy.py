from itertools import combinations, pairwise

from hypothesis import given
from hypothesis import strategies as st

from workers.batches.policy import INTERACTIVE_IN_A_ROW, LENGTH_TOKENS, Budget, Work, cost_tokens, cut, rows_for_one_lane, turns

LENGTHS = st.lists(st.integers(1, 600), max_size=120)
BUDGETS = st.integers(1, 2048)
MAX_ROWS = st.integers(1, 64)
OVERHEADS = st.integers(0, 100)


@given(LENGTHS, BUDGETS, st.booleans(), MAX_ROWS)
def test_every_row_is_in_exactly_one_batch(lengths: list[int], budget: int, padded: bool, max_rows: int) -> None:
    batches = cut(lengths, budget, padded=padded, max_rows=max_rows)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))


def test_rows_of_many_lengths_fill_a_large_packed_batch() -> None:
    """Several lengths in one chunk count as several: were they one, a chunk alone would look cheaper than a full batch."""
    lengths = list(range(200, 712))
    assert len(cut(lengths, 65_536, padded=False, max_rows=512)) == -(-sum(lengths) // 65_536)


@given(LENGTHS, BUDGETS, st.booleans(), MAX_ROWS)
def test_only_a_single_row_larger_than_the_budget_passes_it(lengths: list[int], budget: int, padded: bool, max_rows: int) -> None:
    for batch in cut(lengths, budget, padded=padded, max_rows=max_rows):
        assert 1 <= len(batch) <= max_rows
        assert len(batch) == 1 or cost_tokens([lengths[row] for row in batch], padded=padded) <= budget


@given(LENGTHS, BUDGETS, st.booleans(), MAX_ROWS)
def test_the_same_rows_always_give_the_same_batches(lengths: list[int], budget: int, padded: bool, max_rows: int) -> None:
    first = cut(lengths, budget, padded=padded, max_rows=max_rows)
    assert first == cut(list(lengths), budget, padded=padded, max_rows=max_rows)


@given(LENGTHS, BUDGETS, st.booleans(), MAX_ROWS)
def test_batches_come_in_the_order_of_their_oldest_rows(lengths: list[int], budget: int, padded: bool, max_rows: int) -> None:
    oldest = [min(batch) for batch in cut(lengths, budget, padded=padded, max_rows=max_rows)]
    assert oldest == sorted(oldest)
    assert oldest[:1] == [0][: len(lengths)]


@given(LENGTHS, BUDGETS, st.booleans(), MAX_ROWS)
def test_a_batch_is_a_run_of_the_rows_in_order_of_length(lengths: list[int], budget: int, padded: bool, max_rows: int) -> None:
    order = sorted(range(len(lengths)), key=lambda row: (lengths[row], row))
    for batch in cut(lengths, budget, padded=padded, max_rows=max_rows):
        first = order.index(batch[0])
        assert batch == order[first : first + len(batch)]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8, unique=True), st.integers(1, 200), st.booleans(), st.integers(1, 8), OVERHEADS)
def test_no_other_cut_costs_less(lengths: list[int], budget: int, padded: bool, max_rows: int, overhead: int) -> None:
    def total(batches: list[list[int]]) -> int:
        kinds = 0 if padded else LENGTH_TOKENS * len(lengths)
        return sum(overhead + cost_tokens(batch, padded=padded) for batch in batches) + kinds

    def allowed(batch: list[int]) -> bool:
        return len(batch) == 1 or (len(batch) <= max_rows and cost_tokens(batch, padded=padded) <= budget)

    order = sorted(lengths)
    every = []
    for inner in range(len(order)):
        for places in combinations(range(1, len(order)), inner):
            ends = [0, *places, len(order)]
            batches = [order[start:end] for start, end in pairwise(ends)]
            if all(map(allowed, batches)):
                every.append(total(batches))
    found = cut(lengths, budget, padded=padded, max_rows=max_rows, overhead_tokens=overhead)
    assert total([[lengths[row] for row in batch] for batch in found]) == min(every)


@given(st.lists(st.integers(1, 20), max_size=100), MAX_ROWS)
def test_where_a_batch_costs_more_than_any_padding_there_are_as_few_as_can_be(lengths: list[int], max_rows: int) -> None:
    batches = cut(lengths, 1 << 20, padded=True, max_rows=max_rows, overhead_tokens=1 << 20)
    few = -(-len(lengths) // max_rows)
    assert few <= len(batches) <= few + few // 3 + 1, "chunks of a quarter leave at most that much of a batch empty"


def test_one_more_batch_is_run_where_its_fixed_cost_is_less_than_the_padding() -> None:
    lengths = [10, 500, 11, 490, 12, 505, 9, 495]
    batches = cut(lengths, 2048, padded=True, max_rows=4, overhead_tokens=20)
    assert [sorted(lengths[row] for row in batch) for batch in batches] == [[9, 10, 11, 12], [500, 505], [490, 495]]


def test_equal_lengths_fill_the_budget() -> None:
    assert [len(batch) for batch in cut([16] * 200, 1024, padded=True, max_rows=512)] == [64, 64, 64, 8]


def test_padding_stays_small_because_neighbours_in_length_go_together() -> None:
    lengths = [10, 500, 11, 498, 12, 501, 9, 499]
    batches = cut(lengths, 2048, padded=True, max_rows=4)
    assert [sorted(lengths[row] for row in batch) for batch in batches] == [[9, 10, 11, 12], [498, 499, 500, 501]]


def test_no_rows_make_no_batch() -> None:
    assert cut([], 512, padded=True, max_rows=8) == []
    assert cost_tokens([], padded=True) == 0


def test_interactive_work_goes_first_until_bulk_has_waited_for_some_of_its_batches() -> None:
    assert [turns(run)[0] for run in range(INTERACTIVE_IN_A_ROW)] == [Work.INTERACTIVE] * INTERACTIVE_IN_A_ROW
    assert turns(INTERACTIVE_IN_A_ROW)[0] is Work.BULK


@given(st.integers(0, 100))
def test_both_classes_have_their_turn_whatever_ran_before(run: int) -> None:
    assert set(turns(run)) == set(Work)


@given(st.integers(0, 1000), st.integers(0, 16), st.integers(1, 512))
def test_waiting_rows_are_shared_among_idle_lanes(waiting: int, idle: int, max_rows: int) -> None:
    share = rows_for_one_lane(waiting, idle, max_rows)
    assert share <= max_rows
    assert share == max_rows or share * max(1, idle) >= waiting


@given(st.integers(1, 100_000), st.lists(st.booleans(), max_size=200))
def test_a_budget_stays_between_its_floor_and_its_full_size(full: int, out_of_memory: list[bool]) -> None:
    budget = Budget(full)
    for shrinks in out_of_memory:
        budget.shrink() if shrinks else budget.grow()
        assert 1 <= budget.floor_tokens <= budget.now_tokens <= full


def test_a_budget_halves_and_grows_all_the_way_back() -> None:
    budget = Budget(1024)
    budget.shrink()
    assert budget.now_tokens == 512
    for _ in range(8):
        budget.grow()
    assert budget.now_tokens == 1024
