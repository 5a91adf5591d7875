"""What an answer must look like: a JSON schema, a regular expression, a choice, a grammar; checked, and made into masks over tokens.

What enters: what a row or a job asked for, as it came (`grammar`). What leaves: why it cannot be had, or what a decoder may say next
(`masks`). `bounds` keeps an answer from running on, `recursion` finds what never ends, `compiling` knows the library (llguidance). Nothing
of it is kept beyond the call that asked: how fast one tenant's schema compiles must not tell that another has it. Light but for `masks`.
"""
