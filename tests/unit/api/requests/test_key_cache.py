"""Who may do what: keys, scopes, and where a key may stand."""

from uuid import uuid4

from api.requests.key_cache import KeyCache
from db.actors import Actor

NONE = "0" * 32

ROUTES: list[tuple[str, str, set[str]]] = [
    ("POST", "/v1/files", {"submit"}),
    ("GET", "/v1/files", {"submit", "read"}),
    ("GET", f"/v1/files/file-{NONE}", {"submit", "read"}),
    ("GET", f"/v1/files/file-{NONE}/content", {"read"}),
    ("GET", f"/v1/files/file-o{NONE}/content", {"read"}),
    ("DELETE", f"/v1/files/file-{NONE}", {"manage"}),
    ("POST", "/v1/batches", {"submit"}),
    ("GET", "/v1/batches", {"submit", "read"}),
    ("GET", f"/v1/batches/batch_{NONE}", {"submit", "read"}),
    ("GET", f"/v1/batches/batch_{NONE}/shards", {"submit", "read"}),
    ("POST", f"/v1/batches/batch_{NONE}/cancel", {"manage"}),
    ("POST", f"/v1/batches/batch_{NONE}/pause", {"manage"}),
    ("POST", f"/v1/batches/batch_{NONE}/resume", {"manage"}),
    ("POST", f"/v1/batches/batch_{NONE}/retry", {"manage"}),
    ("POST", f"/v1/batches/batch_{NONE}/priority", {"manage"}),
    ("DELETE", f"/v1/batches/batch_{NONE}", {"manage"}),
    ("GET", "/v1/models", {"submit", "read"}),
    ("GET", "/v1/models/minilm-l6-v2", {"submit", "read"}),
    ("GET", "/v1/label_sets", {"submit", "read"}),
    ("GET", "/v1/label_sets/none", {"submit", "read"}),
    ("PUT", "/v1/label_sets/none", {"manage"}),
    ("DELETE", "/v1/label_sets/none", {"manage"}),
    ("POST", "/v1/heads", {"submit"}),
    ("GET", "/v1/heads", {"submit", "read"}),
    ("DELETE", "/v1/heads/none", {"manage"}),
    ("GET", "/v1/audit/events", {"audit"}),
    ("GET", "/v1/keys", {"admin"}),
    ("POST", "/v1/keys", {"admin"}),
    ("DELETE", f"/v1/keys/key_{NONE}", {"admin"}),
]


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
