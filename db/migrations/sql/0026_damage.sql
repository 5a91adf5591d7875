-- What a read brought out, as far as its event cannot say it beforehand: how far it came, and which objects a list showed.
ALTER TABLE audit_digests ADD COLUMN value_count integer, ADD COLUMN came_to_idx integer, ADD COLUMN object_ids uuid[];
CREATE INDEX audit_digests_objects ON audit_digests USING gin (object_ids) WHERE object_ids IS NOT NULL;

-- Values that do not open are told of by the dispatcher's metrics and `textmill doctor`: of the record it sees these events, and no others.
CREATE POLICY dispatcher_of_damage ON audit_events AS RESTRICTIVE FOR SELECT TO textmill_dispatcher USING (action = 'value.damaged');
GRANT SELECT (at, action, object_kind, object_id) ON audit_events TO textmill_dispatcher;
CREATE INDEX audit_events_damage ON audit_events (at) WHERE action = 'value.damaged';
