-- Each process asks at its start whether the database is at its version.

GRANT SELECT ON alembic_version TO textmill_api, textmill_worker, textmill_dispatcher;
