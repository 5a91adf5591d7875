"""How similar texts are."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.content.likeness import Remembered, runs, signature_of, similarity

LONG = " ".join(f"word{number}" for number in range(200))


def estimate(left: str, right: str) -> float:
    remembered = Remembered()
    remembered.add(signature_of(left))
    return remembered.most_similar(signature_of(right))


@pytest.mark.parametrize("kept", [180, 150, 100, 20])
def test_minhash_is_near_the_exact_similarity(kept: int) -> None:
    other = " ".join([*LONG.split()[:kept], *(f"other{number}" for number in range(200 - kept))])
    assert estimate(LONG, other) == pytest.approx(similarity(runs(LONG), runs(other)), abs=0.09)


@settings(max_examples=50, deadline=None)
@given(st.text())
def test_a_text_is_like_itself_whatever_its_case_and_spaces(text: str) -> None:
    assert estimate(text, f"  {text}\n") == 1.0
    assert similarity(runs(text), runs(text)) == 1.0


def test_the_most_similar_of_many_counts() -> None:
    remembered = Remembered()
    for number in range(200):
        remembered.add(signature_of(f"{number} " * 40))
    remembered.add(signature_of(LONG))
    assert remembered.most_similar(signature_of(LONG)) == 1.0
    assert Remembered().most_similar(signature_of(LONG)) == 0.0
