-- What a reader who goes on behind a line must know of a job that was run again, and how large a file is as it is read back.
-- db/schema.py says what each column means.

ALTER TABLE jobs ADD COLUMN rerun_from_idx integer;
ALTER TABLE files ADD COLUMN content_bytes bigint;
