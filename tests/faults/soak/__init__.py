"""`make soak`: everything at once for a long time. More than a million rows of several tenants go through a stack that is broken every few
seconds, by faults drawn from a seed; then every row is looked at.

`plan` says what happens when, from the seed alone; `servers` are the store and the queue, `keeping` starts again what has died, `feeding`
brings the jobs, `breaking` gives the faults, `checking` looks at what has ended and removes it, `watching` sees what goes on meanwhile;
`run` puts them together, `report` tells what came out.
"""
