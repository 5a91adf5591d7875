"""The sealed store: what enters is sealed before it is written, what leaves is on record before it is opened.

Its doors are :func:`db.connect.open_store` (a store as one component's login role) and the functions of ``files``, ``rows``, ``jobs``,
``shards``, ``results``, ``label_sets``, ``heads``, ``tenants`` and ``audit.events``. It imports neither ``workers`` nor ``api``.
"""
