"""What a route needs before it acts: who is calling, what the key allows, and a body that was checked.

What enters: a request. What leaves: an actor, a struct, a job to be; or a refusal that names a field of ours and quotes nothing. `front`
owns what the process has once: store, settings, bell, keys seen lately, slots for uploads.
"""
