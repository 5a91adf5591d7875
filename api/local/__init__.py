"""The stack of one machine: `textmill up` and what it starts, watches, shows and ends."""
