-- Which tasks there are is the program's to know: adding one takes no migration. The store only holds that it is a plain name.
ALTER TABLE jobs DROP CONSTRAINT jobs_task_check;
ALTER TABLE jobs ADD CONSTRAINT jobs_task_check CHECK (task ~ '^[a-z][a-z_]{0,31}$');
