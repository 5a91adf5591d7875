"""The front: HTTP API, command line, local stack, documentation.

What enters
    HTTP requests (:mod:`api.app`), commands (:mod:`api.cli`). Files come in as streams through :mod:`api.formats` and leave this package as
    rows, sealed and written by :mod:`db.files.rows`; nothing readable touches the disk.
What leaves
    Calls into ``db`` (files, jobs, results, audit) as the login role ``textmill_api``, and answers in the shapes of the OpenAI API. The
    front publishes no Celery messages: it writes jobs, the dispatcher finds them.
Who owns it
    ``app`` the application and its server; ``routes`` one file a resource; ``requests`` who calls and what is asked; ``streams`` uploads
    and downloads; ``formats`` one file a file format; ``objects`` and ``errors`` what a caller is told; ``cli`` the commands, with
    ``client`` their way to the API; ``local`` the stack of one machine; ``demo`` a client like any other.

Importing this package loads no engine: from ``workers`` it takes only what is light.
"""
