-- Why an act was denied: the code of the refusal. What was on record before has none.
ALTER TABLE audit_events ADD COLUMN code text;
