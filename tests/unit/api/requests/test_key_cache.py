"""Keys that were good lately: for how long they are believed, and that they are not kept themselves."""

from uuid import uuid4

from api.requests.key_cache import KeyCache
from db.actors import Actor


def test_the_cache_keeps_good_keys_for_its_time_and_no_longer() -> None:
    now = [0.0]
    cache = KeyCache(3, clock=lambda: now[0])
    actor = Actor(uuid4(), uuid4(), uuid4(), frozenset({"read"}))
    cache.put("tm_a", actor)
    assert cache.get("tm_a") is actor
    assert cache.get("tm_b") is None
    now[0] = 2.9
    assert cache.get("tm_a") is actor
    now[0] = 3.0
    assert cache.get("tm_a") is None
    cache.put("tm_a", actor)
    cache.clear()
    assert cache.get("tm_a") is None


def test_the_cache_does_not_hold_the_keys_themselves() -> None:
    cache = KeyCache(3)
    cache.put("tm_secret", Actor(uuid4(), uuid4(), uuid4(), frozenset()))
    assert b"secret" not in b"".join(cache._actors)
