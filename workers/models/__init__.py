"""Models: what is known about each (registry) and how its files come to this machine (provision). Light: no torch."""
