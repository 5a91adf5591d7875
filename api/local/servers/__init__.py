"""The embedded servers, PostgreSQL and Valkey: made in the home, started, asked whether they answer, stopped. Loopback or private sockets
only.
"""
