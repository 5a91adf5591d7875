-- A table's other columns: of each row its cells, sealed as one value beside its body; of the file what the columns are called and hold.
-- They go when the body goes: programs that do not know them would leave them there.
ALTER TABLE rows ADD COLUMN columns_sealed bytea;
ALTER TABLE rows ALTER COLUMN columns_sealed SET STORAGE EXTERNAL;
ALTER TABLE files ADD COLUMN columns_sealed bytea STORAGE EXTERNAL;
GRANT UPDATE (columns_sealed) ON rows TO textmill_api;
GRANT UPDATE (columns_sealed) ON rows, files TO textmill_dispatcher;
DROP POLICY api_on_record ON rows;
CREATE POLICY api_on_record ON rows AS RESTRICTIVE FOR SELECT TO textmill_api USING (
    file_id IN (SELECT e.object_id FROM own_events e WHERE e.object_kind = 'file'
                UNION ALL
                SELECT j.file_id FROM jobs j WHERE j.tenant_id = nullif(current_setting('textmill.tenant', true), '')::uuid
                    AND j.job_id = ANY (ARRAY(SELECT e.job_id FROM own_events e)))
    OR body_sealed IS NULL AND columns_sealed IS NULL AND file_id IN (SELECT f.file_id FROM files f WHERE f.state = 'deleted'));
