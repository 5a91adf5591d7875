import math
import threading
from concurrent.futures import ThreadPoolExecutor
from operator import mul
from string import ascii_lowercase

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.arrays import Vectors
from workers.engines.fake import vector_of
from workers.models.zero_shot import TEMPERATURE, TEMPLATES, LabelSpace, probabilities, prototypes, written

LABELS = st.lists(st.text(min_size=1, max_size=20), min_size=2, max_size=30, unique=True)


def embed(texts: list[str]) -> Vectors:
    return np.stack([vector_of(text) for text in texts])


@given(LABELS, st.text(max_size=40))
def test_scores_are_probabilities_and_the_answer_has_the_highest(labels: list[str], text: str) -> None:
    scores = probabilities(embed([text]), prototypes(embed(written(labels, TEMPLATES)), len(TEMPLATES)))
    assert scores.shape == (1, len(labels))
    assert scores.sum() == pytest.approx(1, abs=1e-5)
    assert scores.min() >= 0


def test_a_text_that_is_a_labels_description_gets_that_label() -> None:
    labels = list(ascii_lowercase)
    made = prototypes(embed(written(labels, ["{}"])), 1)
    assert [labels[row.argmax()] for row in probabilities(embed(labels), made)] == labels


def test_a_brace_in_a_label_is_only_text() -> None:
    assert written(["{}", "{0.__class__}", "a"], ["<{}>"]) == ["<{}>", "<{0.__class__}>", "<a>"]


def test_every_template_has_one_place_for_the_label() -> None:
    assert all(template.count("{}") == 1 for template in TEMPLATES)


def test_five_thousand_labels_over_a_thousand_texts_are_one_product() -> None:
    labels = [str(number) for number in range(5000)]
    made = prototypes(embed(labels), 1)
    texts = labels[::5]
    found = probabilities(embed(texts), made)
    assert found.shape == (1000, 5000)
    assert found.argmax(axis=1).tolist() == list(range(0, 5000, 5))
    vectors, meant = embed(texts).astype(float).tolist(), embed(labels).astype(float).tolist()
    for row in (0, 1, 499, 999):  # one by one, in double precision
        cosines = [sum(map(mul, vectors[row], label)) / math.hypot(*vectors[row]) / math.hypot(*label) for label in meant]
        powers = [math.exp((cosine - max(cosines)) / TEMPERATURE) for cosine in cosines]
        expected = np.array(powers) / math.fsum(powers)
        assert found[row] == pytest.approx(expected, rel=1e-3, abs=1e-9)
        assert np.sort(expected)[-2] > 1e-6, "the others count, too"


def test_prototypes_are_made_once_for_the_same_labels_and_templates() -> None:
    space = LabelSpace()
    asked: list[list[str]] = []

    def counting(texts: list[str]) -> Vectors:
        asked.append(texts)
        return embed(texts)

    first = space.prototypes("one", ["a", "b"], ["{}"], counting)
    assert space.prototypes("one", ("a", "b"), ("{}",), counting) is first
    assert len(asked) == 1
    for labels, templates in ((["ab"], ["{}"]), (["a", "b"], ["{}."]), (["b", "a"], ["{}"]), (["a"], ["b", "{}"])):
        space.prototypes("one", labels, templates, counting)
    assert len(asked) == 5, "lists that only look alike when they are joined are told apart"


def test_a_tenants_labels_are_made_anew_though_another_has_the_same() -> None:
    """Else how fast they are made would tell that somebody has them."""
    space = LabelSpace()
    asked: list[str] = []

    def counting(texts: list[str]) -> Vectors:
        asked.extend(texts)
        return embed(texts)

    for tenant in ("one", "another", "one", "another"):
        space.prototypes(tenant, ["a", "b"], ["{}"], counting)
    assert asked == ["a", "b", "a", "b"], "once a tenant, and no more"


def test_the_cache_forgets_what_was_used_longest_ago() -> None:
    space = LabelSpace(capacity_bytes=2 * vector_of("a").nbytes)
    asked: list[str] = []

    def counting(texts: list[str]) -> Vectors:
        asked.extend(texts)
        return embed(texts)

    for label in ("a", "b", "a", "c", "a", "b"):
        space.prototypes("one", [label], ["{}"], counting)
    assert asked == ["a", "b", "c", "b"]


def test_labels_that_alone_are_larger_than_the_cache_are_kept_until_others_come() -> None:
    space = LabelSpace(capacity_bytes=vector_of("a").nbytes)
    asked: list[str] = []

    def counting(texts: list[str]) -> Vectors:
        asked.extend(texts)
        return embed(texts)

    for labels in (["a", "b"], ["a", "b"], ["c"], ["a", "b"]):
        space.prototypes("one", labels, ["{}"], counting)
    assert asked == ["a", "b", "c", "a", "b"]


def test_calls_that_want_the_same_labels_at_once_wait_for_the_first() -> None:
    space = LabelSpace()
    entered, let_go = threading.Event(), threading.Event()
    calls: list[int] = []

    def slow(texts: list[str]) -> Vectors:
        calls.append(len(texts))
        entered.set()
        assert let_go.wait(20)
        return embed(texts)

    with ThreadPoolExecutor(4) as threads:
        futures = [threads.submit(space.prototypes, "one", ["a", "b"], ["{}"], slow) for _ in range(4)]
        assert entered.wait(20)
        let_go.set()
        assert len({future.result(20).tobytes() for future in futures}) == 1
    assert calls == [2]


def test_when_the_first_of_them_fails_the_next_one_tries() -> None:
    space = LabelSpace()
    entered, let_go = threading.Event(), threading.Event()

    def fails(texts: list[str]) -> Vectors:
        entered.set()
        assert let_go.wait(20)
        raise InterruptedError

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(space.prototypes, "one", ["a"], ["{}"], fails)
        assert entered.wait(20)
        second = threads.submit(space.prototypes, "one", ["a"], ["{}"], embed)
        let_go.set()
        with pytest.raises(InterruptedError):
            first.result(20)
        assert second.result(20).shape == (1, 32)
