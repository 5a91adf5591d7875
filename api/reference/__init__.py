"""The parts of the documentation that are generated: what the program itself knows best, written into the pages between markers.

What enters: the command tree, the settings, the routes, the structs of bodies, the metrics, the table of failures. What leaves: Markdown in
`api/docs/pages/`. `python -m api.reference` (or `make docs`) writes it; a test fails where a page is not current.
"""
