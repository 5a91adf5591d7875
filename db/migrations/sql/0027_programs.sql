-- Which is the oldest revision whose programs may go on beside this one; db/server/migrate.py writes it. NULL: none but its own.
ALTER TABLE alembic_version ADD COLUMN oldest_program text;
GRANT SELECT ON alembic_version TO textmill_auditor;
