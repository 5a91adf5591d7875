"""The demo: real articles go in, labels and texts come out, and what is said about it was measured on the spot.

`python -m api.demo [--keep]` (or `make demo`). It is a client like any other: it talks to the HTTP API of a stack that it starts and stops.
"""
