"""The documentation: pages of Markdown, for `textmill docs`, for ``/docs`` of the API, and for whoever reads the source.

What enters: a topic. What leaves: its page, as Markdown or as HTML that loads nothing and runs nothing. The pages lie in ``pages/``; what
they tell of commands, settings, routes, fields, metrics and failures is written into them by :mod:`api.reference`.

Light: `pages` imports the standard library alone, `html` one parser.
"""
