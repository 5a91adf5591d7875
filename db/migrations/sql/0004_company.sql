-- Whether a shard's last holder held others when it claimed it: where that holder dies, a row that was not alone is not to blame.
ALTER TABLE shards ADD COLUMN in_company boolean NOT NULL DEFAULT false;
GRANT UPDATE (in_company) ON shards TO textmill_worker;
