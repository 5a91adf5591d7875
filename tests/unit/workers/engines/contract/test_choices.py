import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.engines.contract.choices import END, AlikeChoices, Choices

paths = st.lists(st.lists(st.integers(3, 6), min_size=1, max_size=5).map(tuple), min_size=1, max_size=12, unique=True)


def choices_of(*choices: tuple[int, ...]) -> Choices:
    return Choices([np.array(one, dtype=np.int32) for one in choices], [1, 2])


def test_choices_of_one_token_need_nothing_but_the_prompt() -> None:
    choices = choices_of((5,), (3,), (4,))
    assert (choices.places, choices.deepest, choices.step_tokens.tolist()) == (1, 0, [5, 3, 4])


def test_a_choice_that_another_goes_on_from_ends_there_to_be_chosen() -> None:
    choices = choices_of((5,), (5, 6), (7,))
    assert choices.lengths.tolist() == [2, 2, 1]
    assert sorted(zip(choices.step_places.tolist(), choices.step_tokens.tolist(), strict=True)) == [(0, 5), (0, 7), (1, END), (1, 6)]


def test_choices_of_the_same_tokens_are_told() -> None:
    with pytest.raises(AlikeChoices):
        choices_of((5, 6), (7,), (5, 6))


@given(paths)
def test_each_choice_sums_the_steps_on_its_own_way(own: list[tuple[int, ...]]) -> None:
    choices = choices_of(*own)
    steps = np.random.default_rng(1).normal(size=len(choices.step_tokens))
    by_step = {step: steps[at] for at, step in enumerate(zip(choices.step_places.tolist(), choices.step_tokens.tolist(), strict=True))}
    place_of = {(): 0} | {_way(choices, branch): branch + 1 for branch in range(len(choices.tokens))}
    for path, found, length in zip(own, choices.sums(steps), choices.lengths, strict=True):
        whole = (*path, END) if any(other[: len(path)] == path and other != path for other in own) else path
        assert len(whole) == length
        assert found == pytest.approx(sum(by_step[place_of[whole[:at]], whole[at]] for at in range(len(whole))))


@given(paths, st.data())
def test_a_branch_token_attends_to_itself_and_its_way(own: list[tuple[int, ...]], data: st.DataObject) -> None:
    choices = choices_of(*own)
    branches = len(choices.tokens)
    first = data.draw(st.integers(0, branches))
    ways = [_way(choices, branch) for branch in range(branches)]
    assert choices.depths.tolist() == [len(way) - 1 for way in ways]
    assert choices.deepest == max(map(len, ways), default=0)
    seen = choices.on_the_way(first, branches)
    assert seen.tolist() == [[ways[at][: len(way)] == way for way in ways] for at in range(first, branches)]


def _way(choices: Choices, branch: int) -> tuple[int, ...]:
    """Its tokens from the prompt."""
    parent = int(choices.parents[branch])
    return (*(_way(choices, parent) if parent >= 0 else ()), int(choices.tokens[branch]))


def test_what_is_held_of_long_choices_grows_with_their_tokens() -> None:
    long = [np.arange(2_000, dtype=np.int32) * 3 + first for first in range(3, 13)]
    tracemalloc.start()
    try:
        choices = Choices(long, [1, 2])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert choices.places == 10 * 1_999 + 1
    assert peak < 1_000 * 20_000, "bytes; a tuple of every beginning would take 160 MB"
