"""What the demo counts, and what it looks for."""

import base64
from collections import Counter
from pathlib import Path

import pytest
from redis import Redis

from api.demo.content import RULES
from api.demo.corpus import ARTICLE_COUNT, LABELS, batch_lines, load_articles, phrases, split, training_lines
from api.demo.products import COLUMNS, COUNT, as_csv, products, reachable
from api.demo.prompts import PROMPTS
from api.demo.scoring import score
from api.demo.searching import search_files, search_redis
from workers.content.rules import Rules
from workers.redaction.masking import Masker

PHRASE = b"a phrase that is nowhere else"


def test_the_corpus_is_whole_and_in_the_same_order() -> None:
    articles = load_articles()
    assert len(articles) == len({article.id for article in articles}) == ARTICLE_COUNT
    assert Counter(article.label for article in articles) == {
        "business": 510,
        "entertainment": 386,
        "politics": 417,
        "sports": 511,
        "tech": 401,
    }
    assert [article.id for article in articles] == [article.id for article in load_articles()]


def test_examples_and_the_rest_do_not_overlap() -> None:
    articles = load_articles()
    examples, rest = split(articles, 50, seed=1)
    assert Counter(article.label for article in examples) == dict.fromkeys(LABELS, 50)
    assert len(rest) == 1975
    assert not {article.id for article in examples} & {article.id for article in rest}
    assert split(articles, 50, seed=1) == (examples, rest)


def test_phrases_are_each_of_one_article() -> None:
    articles = load_articles()
    found = phrases(articles, 5, seed=1)
    assert len(found) == 5
    for phrase in found:
        assert sum(phrase.decode() in article.text for article in articles) == 1


def test_lines_carry_no_answers_where_none_belong() -> None:
    articles = load_articles()[:3]
    assert all(b'"label":' not in line and b'"labels":["a","b"]' in line for line in batch_lines(articles, {"labels": ["a", "b"]}))
    assert all(b'"label":"business"' in line for line in training_lines(articles))


def test_there_are_24_different_prompts() -> None:
    assert len(set(PROMPTS)) == 24


def test_the_score_counts_missing_answers_as_wrong() -> None:
    expected = {"1": "a", "2": "a", "3": "b", "4": "b"}
    judged = score(expected, {"1": "a", "2": "b", "3": "b"}, ("a", "b"))
    assert judged.accuracy == 0.5
    assert judged.f1 == {"a": pytest.approx(2 / 3), "b": 0.5}


def test_answers_nobody_asked_for_do_not_count() -> None:
    assert score({"1": "a"}, {"1": "a", "9": "b"}, ("a", "b")).f1 == {"a": 1.0, "b": 0.0}


def test_a_phrase_is_found_in_any_file_and_across_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.demo.searching.CHUNK_BYTES", 64)
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "1").write_bytes(b"\x00" * 50 + PHRASE + b"\x00" * 500)
    (tmp_path / "2").write_bytes(b"x" * 1000)
    (tmp_path / "skipped").mkdir()
    (tmp_path / "skipped" / "3").write_bytes(PHRASE)
    found = search_files(tmp_path, [PHRASE], skip=("skipped",))
    assert (found.places, found.hits) == (2, 1)


def test_a_phrase_is_found_in_every_kind_of_redis_value(valkey: str) -> None:
    client = Redis.from_url(valkey)
    client.flushdb()
    assert search_redis(client, [PHRASE]).hits == 0
    client.set("string", b"." + PHRASE)
    client.rpush("list", b'{"body": "%b"}' % base64.b64encode(b"[" + PHRASE + b"]"))
    client.sadd("set", PHRASE)
    client.zadd("zset", {PHRASE: 1})
    client.hset("hash", PHRASE, b"value")
    client.xadd("stream", {"field": PHRASE})
    client.set(PHRASE, b"name")
    found = search_redis(client, [PHRASE])
    assert (found.places, found.hits) == (7, 7)
    client.flushdb()


def test_every_product_has_a_note_that_names_somebody_and_a_mask_would_hide_it() -> None:
    rows = products()
    assert len(rows) == COUNT
    assert rows == products()
    assert as_csv(rows).decode().splitlines()[0] == ",".join(COLUMNS)
    masker = Masker(b"k" * 32)
    assert not [value for row, value in zip(rows, reachable(rows), strict=True) if value.decode() in masker.mask(row["notes"]).text]


def test_the_rules_of_the_demo_name_columns_that_the_products_have() -> None:
    assert Rules(RULES).columns <= set(COLUMNS)
