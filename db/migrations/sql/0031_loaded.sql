-- Which models a worker has loaded: told to operators, and to clients how many workers have each. NULL of one that does not say.

ALTER TABLE workers ADD COLUMN loaded text[];
GRANT UPDATE (loaded) ON workers TO textmill_worker;
GRANT SELECT (loaded) ON workers TO textmill_api;
