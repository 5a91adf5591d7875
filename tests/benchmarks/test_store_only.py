"""What is timed of the sealer and the audit, and that nothing of the timing stays behind."""

import uuid

import db.files.rows
from db.sealing.cells import KeyOwner, Sealer
from tests.benchmarks.store_only import timed


def sealer() -> Sealer:
    return Sealer(KeyOwner(uuid.uuid4(), "file", uuid.uuid4()), uuid.uuid4(), 1, bytes(32))


def recorders() -> list[object]:
    """As the store's modules call them."""
    return [vars(db.files.rows)[name] for name in ("record_act", "record_digest")]


def test_every_call_of_the_sealer_is_counted() -> None:
    one = sealer()
    with timed() as spent:
        assert one.open("rows.body", 1, one.seal("rows.body", 1, b"text")) == b"text"
        assert one.open_all("rows.body", [1], one.seal_all("rows.body", [1], [b"text"])) == [b"text"]
        assert one.hmac_all("rows.custom_id", [b"id"]) == [one.hmac("rows.custom_id", b"id")]
    assert spent.sealing_calls == 6
    assert spent.sealing_seconds > 0
    assert spent.audit_calls == 0


def test_after_the_block_everything_is_as_before() -> None:
    before = (Sealer.seal, Sealer.open, Sealer.hmac, *recorders())
    with timed() as spent:
        assert Sealer.seal is not before[0]
        assert not set(recorders()) & set(before)
    sealer().seal("rows.body", 1, b"text")
    assert (Sealer.seal, Sealer.open, Sealer.hmac, *recorders()) == before
    assert spent.sealing_calls == 0
