"""Processes, for operators: no tenant's data."""

from sqlalchemy import BigInteger, Column, Integer, SmallInteger, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY

from db.schema.columns import metadata, moment

workers = Table(  # processes, for operators: no tenant's data
    "workers",
    metadata,
    Column("worker", Text, primary_key=True),  # host:pid:start, as in shards.worker
    Column("device", Text, nullable=False),  # cpu, or cuda:N
    Column("threads", SmallInteger, nullable=False),  # shards in flight at most
    Column("version", Text, nullable=False),
    Column("state", Text, nullable=False, server_default="running"),  # running | draining | drained
    Column("asked", Text),  # drain, where an operator wants it
    moment("started_at", nullable=False),
    moment("seen_at", nullable=False),  # its last heartbeat
    moment("progressed_at", nullable=False),  # last micro-batch or write, or last moment with nothing to do
    Column("leases", Integer, nullable=False, server_default="0"),  # shards in flight, as it counts them
    Column("rows_done", BigInteger, nullable=False, server_default="0"),
    Column("memory_bytes", BigInteger, nullable=False, server_default="0"),  # resident
    Column("models", ARRAY(Text)),  # that it could run; NULL where it did not say
    Column("loading", Text),  # the model that it loads
    moment("loading_since"),
    Column("calibrating", Text),  # the model of which it finds out how it runs best here
    Column("loaded", ARRAY(Text)),  # the models that it holds; NULL where it did not say
)

leads = Table(  # who leads among the dispatchers: one row, no tenant's data
    "leads",
    metadata,
    Column("role", Text, primary_key=True),  # dispatcher
    Column("term", BigInteger, nullable=False, server_default="0"),  # one more each time somebody takes the lead
    Column("holder", Text),  # host:pid:start of who leads; NULL: nobody does
    Column("sessions", Text),  # what the server calls the holder's connections
    moment("taken_at"),
    moment("beat_at"),  # the holder's last sign of life
)
