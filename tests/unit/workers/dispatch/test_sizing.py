from workers.dispatch.sizing import MAX_CHARS, MIN_CHARS, shard_chars
from workers.models import registry

MODEL = "minilm-l6-v2"


def test_a_shard_is_cut_by_the_speed_that_was_measured() -> None:
    assert shard_chars(MODEL, "classify", seconds=8, measured={("classify", MODEL): 100_000.0}) == 800_000


def test_the_registry_says_the_speed_until_something_is_measured() -> None:
    speed = registry.get(MODEL).speed_chars_per_second
    assert shard_chars(MODEL, "classify", seconds=8, measured={("embed", MODEL): 1.0}) == speed * 4


def test_a_model_that_nobody_knows_gets_a_modest_shard() -> None:
    assert MIN_CHARS < shard_chars("head:desk", "classify", seconds=8, measured={}) < MAX_CHARS


def test_a_job_without_a_model_is_measured_as_any_other_and_gets_large_shards_until_then() -> None:
    assert shard_chars(None, "classify", seconds=8, measured={}) > shard_chars("head:desk", "classify", seconds=8, measured={})
    assert shard_chars(None, "classify", seconds=8, measured={("classify", None): 50_000.0}) == 400_000


def test_no_measurement_makes_a_shard_absurd() -> None:
    assert shard_chars(MODEL, "classify", seconds=8, measured={("classify", MODEL): 1e-9}) == MIN_CHARS
    assert shard_chars(MODEL, "classify", seconds=8, measured={("classify", MODEL): 1e12}) == MAX_CHARS


def test_training_is_one_shard() -> None:
    assert shard_chars(MODEL, "train", seconds=8, measured={}) is None
