"""The benchmark's texts are the same everywhere, and as long as they promise to be, by the encoder's own tokenizer."""

from collections import Counter
from statistics import mean, median

import pytest
from tokenizers import Tokenizer

from tests.benchmarks import workloads
from tests.benchmarks.workloads import Workload, c1, c2, c3, c4, c5, c6, c8, many, repeated_lines


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    made = Tokenizer.from_file(str(workloads.tokenizer_file()))
    made.no_padding()
    made.no_truncation()
    return made


def lengths(tokenizer: Tokenizer, workload: Workload) -> list[int]:
    return [len(encoding.ids) for encoding in tokenizer.encode_batch_fast(workload.texts)]


def test_a_workload_is_the_same_each_time() -> None:
    assert c3().texts == c3().texts
    assert c3().texts[:10] != many("other", 10).texts


def test_c1_is_short(tokenizer: Tokenizer) -> None:
    found = lengths(tokenizer, c1())
    assert (len(found), min(found), max(found)) == (20_000, 8, 24)


def test_c2_is_long(tokenizer: Tokenizer) -> None:
    found = lengths(tokenizer, c2())
    assert len(found) == 500
    assert 256 <= min(found) < 270
    assert 500 < max(found) <= 512


def test_c3_has_a_mean_of_fifty_tokens_and_a_tail(tokenizer: Tokenizer) -> None:
    found = lengths(tokenizer, c3())
    assert len(found) == 4_000
    assert mean(found) == pytest.approx(50, rel=0.03)
    assert median(found) == pytest.approx(50 / 2.718281828 ** (0.6**2 / 2), rel=0.05), "lognormal: the median lies below the mean"
    assert max(found) > 200


def test_c4_is_sixteen_tokens_but_for_one_in_twenty(tokenizer: Tokenizer) -> None:
    assert Counter(lengths(tokenizer, c4())) == {16: 3_800, 512: 200}


def test_c5_and_c6_are_as_many_as_they_say() -> None:
    assert len(c5()) == 2_000 * 4
    assert len(c6()) == 50_000


def test_three_in_ten_texts_of_c8_occur_before() -> None:
    texts = c8().texts
    assert len(texts) == 4_000
    assert len(set(texts)) == 2_800


def test_no_two_texts_of_one_workload_share_an_id() -> None:
    assert len({article.id for article in c3().articles}) == 4_000


def test_a_part_of_a_workload_is_spread_over_the_whole() -> None:
    whole = c3()
    part = whole.take(100)
    assert [whole.texts.index(text) for text in part.texts] == list(range(0, 4_000, 40))
    assert whole.take(10_000) is whole


def test_a_part_worth_so_many_tokens_has_about_as_many(tokenizer: Tokenizer) -> None:
    part = c4().worth(10_000)
    assert sum(min(256, length) for length in lengths(tokenizer, part)) == pytest.approx(10_000, rel=0.1)
    assert len(c4().worth(1e9)) == 4_000


def test_lines_have_an_id_each_and_come_one_by_one() -> None:
    lines = list(repeated_lines(2_500))
    assert len(set(lines)) == 2_500
    assert all(line.endswith(b"\n") for line in lines)
    assert lines[0].partition(b"body")[2] == lines[1_000].partition(b"body")[2]
