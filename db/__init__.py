"""The sealed store: what enters is sealed before it is written, what leaves is on record before it is opened.

What enters
    Texts, ids and names in the clear, from ``api``; answers, from ``workers``; and who acts (:mod:`db.actors`).
What leaves
    The same, opened for whoever may read it; counts, states and codes for whoever may not.
Who owns it
    ``sealing`` the keys and the sealed form of a value; ``audit`` the record; ``files`` what was uploaded; ``jobs`` what is asked of it and
    what came out; ``queue`` the states of shards; ``catalogue`` what a tenant named; ``operators`` what people look after. Below the rooms
    lie ``connect`` (the one way to Postgres: a login role a component, a tenant a transaction), ``schema``, ``lifecycle`` (which state
    follows, pure) and ``errors``.

It imports neither ``workers`` nor ``api``.
"""
