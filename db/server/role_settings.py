"""What the login roles are set to on the server. Nothing that they send reaches its log; and a role may set itself to anything else, which
stays, for all who log in as it: whoever has its login for a moment can stop all its kind so. Postgres cannot refuse that; we notice it."""

from typing import Any, Final

import psycopg

# Statements and parameters of our roles never reach the server's log: a failing INSERT would be quoted there.
QUIET: Final = {
    "log_min_messages": "fatal",  # errors may quote a value, and RAISE LOG writes whatever it is given
    "log_statement": "none",
    "log_min_error_statement": "panic",
    "log_min_duration_statement": "-1",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_error_verbosity": "terse",  # leaves out DETAIL, where "Failing row contains" stands
}

# The owner may set its database, too, for all who log in to it.
_OTHERS: Final = """
SELECT DISTINCT split_part(setting, '=', 1) AS name
FROM pg_db_role_setting AS stored, unnest(stored.setconfig) AS setting
WHERE stored.setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = current_user))
    AND stored.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
    AND NOT (stored.setrole = 0 AND stored.setdatabase = 0) -- what holds for the whole server is a superuser's
    AND split_part(setting, '=', 1) <> ALL (%s)
ORDER BY name
"""


def set_beside(conn: psycopg.Connection[Any]) -> tuple[str, ...]:
    """Names of settings that the session's role, or its database, has on the server, and that `textmill db bootstrap` did not give it."""
    return tuple(name for (name,) in conn.execute(_OTHERS, [list(QUIET)]).fetchall())
