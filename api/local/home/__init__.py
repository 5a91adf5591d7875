"""The home folder: what lies where, which stack runs in it, its secrets, and why a command about it is refused.

One process owns a home at a time, by a lock; the others read ``run/state.json``.
"""
