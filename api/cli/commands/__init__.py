"""The commands, one module a group: options and help, and a few lines that ask a client of the API, the store, or the local stack.

What enters: arguments that typer has read. What leaves: an exit code. Imports of what is heavy stand inside the functions.
"""
