"""Some of the tests of a shard's life look at the store as its own tests do."""

from tests.db.conftest import as_superuser

__all__ = ["as_superuser"]
