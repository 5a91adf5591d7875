"""The processes of the stack: what they are, how each is started so that none outlives its parent, watched, started again and ended.

What enters: the parts in their order, and the clock. What leaves: their states. `supervisor` owns every child, on one thread.
"""
