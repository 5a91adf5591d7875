"""The record of who read or changed what: append-only events, written in the transaction of the access itself."""
