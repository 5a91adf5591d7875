"""A sealed value opens in its own cell under its own key, and nowhere else; what was sealed once opens for ever."""

import json
import os
import struct
import threading
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given
from hypothesis import strategies as st

from db.errors import SealError
from db.sealing.cells import KeyOwner, Sealer, digest_of

VECTORS = json.loads((Path(__file__).parent / "vectors" / "sealing_v1.json").read_text())
MESSAGE = "A sealed value could not be opened: it was altered, moved, or sealed under another key."
TENANT, OWNER, KEY = UUID(int=1), UUID(int=2), UUID(int=3)
DATA_KEY = bytes(range(32))
HEADER = 50  # version, algorithm, key id, salt, commitment
named = pytest.mark.parametrize("vector", VECTORS["sealed"], ids=lambda vector: vector["name"])


def sealer(
    tenant: UUID = TENANT,
    kind: str = "file",
    owner: UUID = OWNER,
    key_id: UUID = KEY,
    epoch: int = 1,
    key: bytes = DATA_KEY,
    off: bool = False,
) -> Sealer:
    return Sealer(KeyOwner(tenant, kind, owner), key_id, epoch, key, sealing_off=off)


def of_vector(vector: dict[str, Any]) -> Sealer:
    return sealer(
        UUID(vector["tenant_id"]),
        vector["owner_kind"],
        UUID(vector["owner_id"]),
        UUID(vector["key_id"]),
        vector["key_epoch"],
        bytes.fromhex(vector["data_key"]),
    )


def row_of(vector: dict[str, Any]) -> int | UUID:
    return vector["row"] if isinstance(vector["row"], int) else UUID(vector["row"])


def refused(by: Sealer, column: str, row: int | UUID, sealed: bytes) -> None:
    """It does not open, and the error says the same whatever is wrong, chained to nothing that says more."""
    with pytest.raises(SealError) as caught:
        by.open(column, row, sealed)
    assert str(caught.value) == MESSAGE
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


# Known answers


@named
def test_what_was_sealed_once_opens_for_ever(vector: dict[str, Any]) -> None:
    opened = of_vector(vector).open(vector["column"], row_of(vector), bytes.fromhex(vector["sealed"]))
    assert opened.hex() == vector["plaintext"]


@named
def test_sealing_gives_the_known_answer(vector: dict[str, Any]) -> None:
    sealed = of_vector(vector).seal_with_salt(
        vector["column"], row_of(vector), bytes.fromhex(vector["plaintext"]), bytes.fromhex(vector["salt"])
    )
    assert sealed.hex() == vector["sealed"]
    assert sealed[:HEADER].hex() == vector["header"]


@named
def test_the_format_can_be_written_again_from_its_description(vector: dict[str, Any]) -> None:
    """By other code than ours: HKDF-Expand and AES-GCM as `cryptography` has them, the additional data spelt out."""
    salt, key_id, row = bytes.fromhex(vector["salt"]), UUID(vector["key_id"]).bytes, row_of(vector)
    material = HKDFExpand(SHA512(), 60, b"textmill value 1" + salt).derive(bytes.fromhex(vector["data_key"]))
    key, nonce, commitment = material[:32], material[32:44], material[44:]
    assert (key.hex(), nonce.hex(), commitment.hex()) == (vector["value_key"], vector["nonce"], vector["commitment"])
    parts = [
        b"\x01\x01",
        UUID(vector["tenant_id"]).bytes,
        vector["owner_kind"].encode(),
        UUID(vector["owner_id"]).bytes,
        key_id,
        struct.pack(">I", vector["key_epoch"]),
        vector["column"].encode(),
        struct.pack(">Q", row) if isinstance(row, int) else row.bytes,
    ]
    bound = b"".join(struct.pack(">I", len(part)) + part for part in parts)
    assert bound.hex() == vector["additional_data"]
    header = b"\x01\x01" + key_id + salt + commitment
    assert (header + AESGCM(key).encrypt(nonce, bytes.fromhex(vector["plaintext"]), bound)).hex() == vector["sealed"]


@pytest.mark.parametrize("vector", VECTORS["lookups"])
def test_a_look_up_digest_stays_what_it_was(vector: dict[str, str]) -> None:
    found = sealer(key=bytes.fromhex(vector["data_key"])).hmac(vector["purpose"], bytes.fromhex(vector["value"]))
    assert found.hex() == vector["digest"]


# Tampering


@named
def test_a_value_with_any_byte_changed_does_not_open(vector: dict[str, Any]) -> None:
    by, sealed = of_vector(vector), bytes.fromhex(vector["sealed"])
    for at in range(len(sealed)):
        for flip in (0x01, 0x80, 0xFF):
            changed = bytearray(sealed)
            changed[at] ^= flip
            refused(by, vector["column"], row_of(vector), bytes(changed))


@named
def test_a_value_cut_short_or_made_longer_does_not_open(vector: dict[str, Any]) -> None:
    by, sealed = of_vector(vector), bytes.fromhex(vector["sealed"])
    for size in range(len(sealed)):
        refused(by, vector["column"], row_of(vector), sealed[:size])
    refused(by, vector["column"], row_of(vector), sealed + b"\0")


@pytest.mark.parametrize(
    ("moved", "column", "row"),
    [
        (sealer(), "rows.body", 8),
        (sealer(), "rows.custom_id", 7),
        (sealer(), "rows.body", UUID(int=7)),
        (sealer(tenant=uuid4()), "rows.body", 7),
        (sealer(kind="job"), "rows.body", 7),
        (sealer(owner=uuid4()), "rows.body", 7),
        (sealer(key_id=uuid4()), "rows.body", 7),
        (sealer(epoch=2), "rows.body", 7),
        (sealer(key=bytes(32)), "rows.body", 7),
        (sealer(off=True), "rows.body", 7),
    ],
    ids=["row", "column", "row as an id", "tenant", "kind of owner", "owner", "key id", "epoch", "data key", "sealing off"],
)
def test_a_value_opens_nowhere_else(moved: Sealer, column: str, row: int | UUID) -> None:
    sealed = sealer().seal("rows.body", 7, b"text")
    assert sealer().open("rows.body", 7, sealed) == b"text"
    refused(moved, column, row, sealed)


rows = st.integers(0, 2**63 - 1) | st.uuids()
cells = st.tuples(st.uuids(), st.sampled_from(["tenant", "file", "job"]) | st.text(max_size=6), st.uuids(), st.text(max_size=12), rows)


@given(cells, cells)
def test_no_two_cells_share_an_encoding(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    encoded = [sealer(tenant, kind, owner)._cell(column, row) for tenant, kind, owner, column, row in (one, other)]
    assert (encoded[0] == encoded[1]) == (one == other)


@given(st.text(min_size=1, max_size=12), st.integers(0, 11), rows)
def test_a_letter_moved_over_a_border_makes_another_cell(word: str, at: int, row: int | UUID) -> None:
    """The owner's kind and the column stand beside fields of other lengths: shifting a border must not give the same bytes."""
    cut = min(at, len(word) - 1)
    assert sealer(kind=word)._cell("", row) != sealer(kind=word[:cut])._cell(word[cut:], row)


def test_a_border_moved_through_all_fields_makes_another_cell() -> None:
    """One run of bytes read as kind, owner, key, epoch and column: were the lengths not in front, where it is cut would not show."""
    run = bytes(range(65, 65 + 44))

    def cell(cut: int) -> bytes:
        rest = run[cut:]
        owner, key_id, epoch = UUID(bytes=rest[:16]), UUID(bytes=rest[16:32]), int.from_bytes(rest[32:36], "big")
        return sealer(kind=run[:cut].decode(), owner=owner, key_id=key_id, epoch=epoch)._cell(rest[36:].decode(), 7)

    assert cell(1) != cell(2)


@given(st.binary(max_size=2000), rows)
def test_what_goes_in_comes_out(plaintext: bytes, row: int | UUID) -> None:
    assert sealer().open("rows.body", row, sealer().seal("rows.body", row, plaintext)) == plaintext


def test_the_same_value_never_looks_the_same_twice() -> None:
    sealed = {sealer().seal("rows.body", 1, b"text") for _ in range(200)}
    assert len(sealed) == 200
    assert len({value[18:34] for value in sealed}) == 200


def test_a_value_grows_by_66_bytes() -> None:
    assert len(sealer().seal("rows.body", 1, b"")) == 66


def test_threads_share_a_sealer() -> None:
    shared, wrong = sealer(), []

    def work(thread: int) -> None:
        for at in range(300):
            text = b"%d %d" % (thread, at)
            if shared.open("rows.body", at, shared.seal("rows.body", at, text)) != text or shared.hmac("p", text) != sealer().hmac(
                "p", text
            ):
                wrong.append(text)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


# Look-ups


def test_equal_values_are_found_under_one_purpose_and_key_only() -> None:
    digest = sealer().hmac("rows.custom_id", b"id")
    assert len(digest) == 16
    assert digest == sealer(kind="job", epoch=9).hmac("rows.custom_id", b"id")  # the data key alone decides
    others = {
        sealer().hmac("label_sets.name", b"id"),
        sealer().hmac("rows.custom_id", b"ie"),
        sealer().hmac("rows.custom_i", b"did"),
        sealer(key=os.urandom(32)).hmac("rows.custom_id", b"id"),
    }
    assert len(others | {digest}) == 5


@given(st.text(max_size=8), st.binary(max_size=8), st.text(max_size=8), st.binary(max_size=8))
def test_purpose_and_value_do_not_run_together(purpose: str, value: bytes, other_purpose: str, other_value: bytes) -> None:
    same = (purpose, value) == (other_purpose, other_value)
    assert (sealer().hmac(purpose, value) == sealer().hmac(other_purpose, other_value)) == same


# The control run without sealing


def test_a_readable_value_is_opened_only_where_sealing_is_off() -> None:
    readable = sealer(off=True).seal("rows.body", 7, b"text")
    assert readable[:2] == b"\x01\x00"
    assert readable.endswith(b"text")
    assert sealer(off=True).open("rows.body", 7, readable) == b"text"
    refused(sealer(), "rows.body", 7, readable)
    refused(sealer(), "rows.body", 7, readable + bytes(100))


# What the record holds of a read


def test_a_digest_tells_order_and_borders_apart() -> None:
    assert len({digest_of([b"ab", b"c"]), digest_of([b"a", b"bc"]), digest_of([b"c", b"ab"]), digest_of([b"abc"]), digest_of([])}) == 5


@given(st.lists(st.tuples(st.integers(0, 2**31 - 1), st.none() | st.binary(max_size=300)), max_size=8))
def test_many_values_are_sealed_each_for_its_own_cell(values: list[tuple[int, bytes | None]]) -> None:
    one, rows, plaintexts = sealer(), [row for row, _ in values], [plaintext for _, plaintext in values]
    sealed = one.seal_all("rows.body", rows, plaintexts)
    for row, plaintext, value in zip(rows, plaintexts, sealed, strict=True):
        assert plaintext == (None if value is None else one.open("rows.body", row, value))
        if plaintext is not None and value is not None:
            assert value == one.seal_with_salt("rows.body", row, plaintext, value[18:34])
    assert one.open_all("rows.body", rows, sealed) == plaintexts


@given(st.text(max_size=20), st.lists(st.none() | st.binary(max_size=300), max_size=8))
def test_many_values_are_looked_up_as_one_is(purpose: str, values: list[bytes | None]) -> None:
    assert sealer().hmac_all(purpose, values) == [None if value is None else sealer().hmac(purpose, value) for value in values]


def test_many_values_never_share_a_salt() -> None:
    sealed = sealer().seal_all("rows.body", range(100), [b"the same"] * 100)
    salts = {value[18:34] for value in sealed if value is not None}
    assert len(salts) == 100


def test_of_many_values_only_the_spoilt_one_does_not_open() -> None:
    one = sealer()
    sealed = one.seal_all("rows.body", range(3), [b"0", b"1", b"2"])
    assert sealed[0] is not None
    assert one.open_all("rows.body", range(4), [sealed[0], sealed[0], sealed[2], None]) == [b"0", None, b"2", None]


def test_many_values_are_readable_only_where_sealing_is_off() -> None:
    (value,) = sealer(off=True).seal_all("rows.body", [0], [b"plain"])
    assert value is not None
    assert value.endswith(b"plain")
    assert sealer(off=True).open_all("rows.body", [0], [value]) == [b"plain"]
    assert sealer().open_all("rows.body", [0], [value]) == [None]
