"""Tables of the sealed store, as SQLAlchemy Core metadata.

This is what the queries are written against; the migrations create the same tables (a test compares the two) and add what metadata cannot
say: partitions, roles, grants and row-level security.

Columns named ``*_sealed`` hold ciphertext made by :mod:`db.sealing.cells`. Columns named ``*_hmac`` hold 16-byte keyed digests for
look-ups. Everything else is readable by whoever gets the database, so it holds ids, counts, codes and times only, never content.
"""

from db.schema.audit import audit_checkpoints, audit_digests, audit_events, audit_leaves, audit_unsealed
from db.schema.catalogue import definitions, deleted_versions, job_pins, label_sets, models
from db.schema.columns import metadata
from db.schema.files import files, rows
from db.schema.fleet import leads, workers
from db.schema.tenants import api_keys, data_keys, store_keys, tenant_keys, tenants
from db.schema.work import job_sources, job_specs, jobs, results, schedules, shards

__all__ = [
    "api_keys",
    "audit_checkpoints",
    "audit_digests",
    "audit_events",
    "audit_leaves",
    "audit_unsealed",
    "data_keys",
    "definitions",
    "deleted_versions",
    "files",
    "job_pins",
    "job_sources",
    "job_specs",
    "jobs",
    "label_sets",
    "leads",
    "metadata",
    "models",
    "results",
    "rows",
    "schedules",
    "shards",
    "store_keys",
    "tenant_keys",
    "tenants",
    "workers",
]
