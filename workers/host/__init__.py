"""A worker's process: its device, its parts in order of start and end, its signs of life.

What enters: settings, signals, an operator's orders. What leaves: an exit code. `device` pins the process before torch is imported;
`process` owns the parts; `watchdog` and `memory` end it when a model never comes back or memory grows; `presence` tells operators what it
does.
"""
