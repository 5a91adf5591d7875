"""The PostgreSQL behind the store: whether it may be it, whether it lets us in, which version its schema is, and bringing that up to ours.

What enters: its address. What leaves: a session for questions, a migrated database, or one sentence that says what is in the way and what
to do. `revision` says which programs go with which schema; `migrate` alone changes one, and nothing else loads Alembic. It knows no
transaction of the store (:mod:`db.connect`).
"""
