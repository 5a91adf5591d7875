"""Guards of the store and of the machine room, each taken out in turn: some test must notice.

`python -m tests.faults.mutants` takes them out of a copy, one at a time, and runs the tests that name them (see `run.py`). The catalogue:
`leases.py` (claims, fences, heartbeats), `outcomes.py` (results, recovery, endings), `secrecy.py` (sealing, the record), `machine_room.py`
(workers and dispatcher), `decoding.py` (continuous batching), `answers.py` (what a row may ask, and what it is answered), `servers.py`
(models that servers run), `calibration.py` (of decoders), `scoring.py` (labels by a decoder); `redaction.py`
(what is masked); `forecasts.py` (what is promised of a job's end, and
what it may spend); `roll.py` is all of it.

MATERIALIZED is not among them. It stands before two locking sub-queries (db/queue/dispatch.py and the heartbeat), which Postgres never
inlines (`contain_dml` counts FOR UPDATE as a change): taking the word away changes nothing. What bounds and separates claims here is that
rows are locked by a statement of their own before they are taken; that is what is taken out.
"""
