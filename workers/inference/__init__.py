"""The loaded models of a process, and the way from texts to what they say.

What enters: texts or prompts, and a ticket that says on whose behalf. What leaves: vectors or texts, and what that took. `runtime` is the
one door to them and owns each engine with its micro-batcher; tenants, jobs and labels are unknown here.
"""
