import itertools
import random
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from api.demo.corpus import Article
from tests.benchmarks.peers.texts import SPECIAL_TOKENS, Cutter, heavy_tail_lengths, lognormal_lengths, sample

WORDS = [f"word{number}" for number in range(50)]


@pytest.fixture
def cutter(tmp_path_factory: pytest.TempPathFactory) -> Cutter:
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate([*WORDS, "[UNK]"])}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(file))
    articles = [Article(str(size), "tech", " ".join((WORDS * 20)[:size])) for size in (3, 40, 600)]
    return Cutter(articles, file)


def test_lognormal_lengths_have_the_mean_that_was_asked_for() -> None:
    lengths = lognormal_lengths(random.Random(1), 20_000, 50.0, 0.6, 256)
    assert mean(lengths) == pytest.approx(50.0, rel=0.03)
    assert min(lengths) >= 4
    assert max(lengths) <= 256


def test_exactly_the_share_of_a_heavy_tail_is_long() -> None:
    lengths = heavy_tail_lengths(random.Random(1), 4000, 16, 512, 0.05)
    assert (lengths.count(512), lengths.count(16)) == (200, 3800)
    assert 512 in lengths[:200]  # spread, not in one place
    assert 512 in lengths[-200:]


def test_a_cut_text_holds_as_many_tokens_as_asked_for(cutter: Cutter) -> None:
    lengths = [3, 16, 42, 256, 512]
    assert [len(text.split()) + SPECIAL_TOKENS for text in cutter.cut(lengths, random.Random(3))] == lengths


def test_the_same_seed_cuts_the_same_texts(cutter: Cutter) -> None:
    first, again, other = (cutter.cut([20] * 50, random.Random(seed)) for seed in (7, 7, 8))
    assert first == again != other


@given(count=st.integers(1, 500), size=st.integers(1, 500))
def test_a_sample_is_spread_evenly_and_names_nothing_twice(count: int, size: int) -> None:
    rows = sample(["a text"] * size, count)
    assert len(rows) == min(count, size)
    assert rows == sorted(set(rows))
    gaps = {after - before for before, after in itertools.pairwise(rows)}
    assert not gaps or max(gaps) - min(gaps) <= 1
    assert all(0 <= row < size for row in rows)
