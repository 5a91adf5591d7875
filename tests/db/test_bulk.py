from collections.abc import Sequence

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, OperationalError

from db import bulk
from db.actors import Actor
from db.settings import Role
from tests.db.flow import Stores

_STAGING = bulk.Staging("staged_things", (("small", "smallint"), ("whole", "integer"), ("word", "text"), ("sealed", "bytea")))


def columns_of(rows: Sequence[Sequence[bulk.Value]]) -> list[Sequence[bulk.Value]]:
    return list(zip(*rows, strict=True))


def test_every_kind_of_value_arrives_as_it_was(stores: Stores, tenant: Actor) -> None:
    rows = [
        (1, 2, "a word", b"\x00\xff"),
        (-32768, -(2**31), "", b""),
        (32767, 2**31 - 1, "ünïcödé 😀", bytes(range(256)) * 5000),
        (None, None, None, None),
    ]
    with stores(Role.API).transaction(tenant=tenant.tenant_id) as conn:
        bulk.stage(conn, _STAGING, columns_of(rows))
        found = conn.execute(text("SELECT small, whole, word, sealed FROM pg_temp.staged_things")).all()
    assert [tuple(row) for row in found] == rows


@pytest.mark.parametrize("count", [0, 1, 511, 512, 513, 1024, 1500])
def test_however_many_rows_each_arrives_once_and_with_its_own_values(stores: Stores, tenant: Actor, count: int) -> None:
    """They go in parts, and a part's border cuts all columns at the same row."""
    rows = [(at % 7, at, f"word {at}" if at % 3 else None, b"%d" % at if at % 5 else None) for at in range(count)]
    with stores(Role.API).transaction(tenant=tenant.tenant_id) as conn:
        bulk.stage(conn, _STAGING, columns_of(rows) or [[]] * 4)
        found = conn.execute(text("SELECT small, whole, word, sealed FROM pg_temp.staged_things ORDER BY whole")).all()
    assert [tuple(row) for row in found] == rows


def test_columns_of_unequal_length_are_a_mistake_that_stores_nothing(stores: Stores, tenant: Actor) -> None:
    with pytest.raises(ValueError, match="shorter"), stores(Role.API).transaction(tenant=tenant.tenant_id) as conn:
        bulk.stage(conn, _STAGING, [[1, 2], [1, 2], ["x"], [b"x", b"y"]])


def test_a_staging_table_is_empty_in_the_next_transaction_and_after_a_rollback(stores: Stores, tenant: Actor) -> None:
    store = stores(Role.API)
    for _ in range(3):
        try:
            with store.transaction(tenant=tenant.tenant_id) as conn:
                bulk.stage(conn, _STAGING, columns_of([(1, 1, "x", b"x")] * 3))
                assert conn.execute(text("SELECT count(*) FROM pg_temp.staged_things")).scalar_one() == 3
                raise KeyError
        except KeyError:
            pass
        with store.transaction(tenant=tenant.tenant_id) as conn:
            bulk.stage(conn, _STAGING, [[]] * 4)
            assert conn.execute(text("SELECT count(*) FROM pg_temp.staged_things")).scalar_one() == 0


def test_what_is_fetched_comes_in_pythons_own_types(stores: Stores, tenant: Actor) -> None:
    with stores(Role.API).transaction(tenant=tenant.tenant_id) as conn:
        query = "SELECT 7, NULL::text, 'ä', %(value)s::bytea, %(tenant)s::uuid"
        found = bulk.fetch(conn, query, {"value": bytes(range(256)), "tenant": tenant.tenant_id})
    assert found == [(7, None, "ä", bytes(range(256)), tenant.tenant_id)]


def test_what_the_driver_raises_is_caught_like_any_error_of_the_database(stores: Stores, tenant: Actor) -> None:
    store = stores(Role.API)
    end_this_session = "SELECT pg_terminate_backend(pg_backend_pid())"
    for use in (
        lambda conn: bulk.stage(conn, _STAGING, columns_of([(1, 1, "a\0b", b"x")])),
        lambda conn: bulk.fetch(conn, "SELECT 1 / 0", {}),
    ):
        with pytest.raises(DBAPIError) as caught, store.transaction(tenant=tenant.tenant_id) as conn:
            use(conn)
        assert not caught.value.connection_invalidated
    with pytest.raises(OperationalError) as lost, store.transaction(tenant=tenant.tenant_id) as conn:
        bulk.fetch(conn, end_this_session, {})
    assert lost.value.connection_invalidated
    with store.transaction(tenant=tenant.tenant_id) as conn:
        assert bulk.fetch(conn, "SELECT 1", {}) == [(1,)]
