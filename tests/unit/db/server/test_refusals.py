"""What a server, a pooler or libpq says is named, with what to do. The servers that say it: tests/deploy/test_doctor.py."""

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError, OperationalError

from db.server.refusals import refusal

AT = 'connection failed: connection to server at "10.0.0.5", port 5432 failed: '
SAID = [
    ('FATAL:  password authentication failed for user "textmill_worker"', "password"),
    ('FATAL:  role "textmill_api" does not exist', "password"),
    ("FATAL:  SASL authentication failed", "password"),
    ("fe_sendauth: no password supplied", "no_password"),
    ('FATAL:  role "textmill_api" is not permitted to log in', "no_login"),
    ('FATAL:  database "textmil" does not exist', "database"),
    ("FATAL:  no such database: textmil", "database"),
    ('FATAL:  permission denied for database "postgres"\nDETAIL:  User does not have CONNECT privilege.', "no_right"),
    ("FATAL:  sorry, too many clients already", "too_many_clients"),
    ("FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute", "too_many_clients"),
    ('FATAL:  too many connections for role "textmill_api"', "too_many_clients"),
    ("FATAL:  no more connections allowed (max_client_conn)", "too_many_clients"),
    ("FATAL:  query_wait_timeout", "too_many_clients"),
    ("FATAL:  the database system is starting up", "starting"),
    ("FATAL:  the database system is not yet accepting connections", "starting"),
    ('FATAL:  no pg_hba.conf entry for host "10.0.0.9", user "textmill_api", database "textmill", no encryption', "needs_tls"),
    ('FATAL:  pg_hba.conf rejects connection for host "10.0.0.9", user "textmill_api", database "textmill", SSL encryption', "host_rules"),
    ("FATAL:  SSL required", "needs_tls"),
    ("FATAL:  unsupported startup parameter in options: search_path", "startup_parameter"),
    ("FATAL:  unsupported startup parameter: options", "startup_parameter"),
    ("FATAL:  server login has been failing, try again later (server_login_retry)", "behind_pooler"),
    ('server certificate for "db.internal" does not match host name "10.0.0.5"', "host_name"),
    ('root certificate file "/etc/ca.crt" does not exist\nEither provide the file, or change sslmode.', "no_ca"),
    ("SSL error: certificate verify failed", "ca"),
    ("SSL error: tlsv13 alert certificate required", "client_certificate"),
    ("server does not support SSL, but SSL was required", "no_tls"),
    ("session is read-only", "read_only"),
    ("Connection refused\n\tIs the server running on that host and accepting TCP/IP connections?", "nobody_listens"),
    ("could not connect: No route to host", "silent"),
    ("expected authentication request from server, but received H", "no_postgres"),
    ("server closed the connection unexpectedly\n\tThis probably means the server terminated abnormally", "no_postgres"),
    ("FATAL:  Passwort-Authentifizierung fehlgeschlagen", "unknown"),
]


@pytest.mark.parametrize(("said", "kind"), SAID, ids=[f"{kind}-{at}" for at, (_, kind) in enumerate(SAID)])
def test_each_way_to_be_left_out_has_a_name(said: str, kind: str) -> None:
    told = refusal(psycopg.OperationalError(AT + said))
    assert told.kind == kind
    assert told.found
    assert not told.found.endswith(".")
    assert told.todo.endswith((".", "?"))
    assert "{" not in told.sentence
    assert "\n" not in told.sentence


def test_who_was_left_out_of_what_is_named() -> None:
    told = refusal(psycopg.OperationalError(f'{AT}FATAL:  password authentication failed for user "textmill_worker"'))
    assert "textmill_worker" in told.found
    assert "secrets/db-worker" in told.todo
    assert "TEXTMILL_DB_PASSWORD_WORKER" in told.todo
    assert "“textmil”" in refusal(psycopg.OperationalError(f'{AT}FATAL:  database "textmil" does not exist')).found
    assert "10.0.0.5, port 5432" in refusal(psycopg.OperationalError(f"{AT}Connection refused")).found
    told = refusal(psycopg.OperationalError("failed to resolve host 'db.intrenal': [Errno -2] Name or service not known"))
    assert (told.kind, "“db.intrenal”" in told.found) == ("unknown_host", True)
    assert refusal(psycopg.errors.ConnectionTimeout("connection timeout expired")).kind == "silent"


def test_the_superusers_password_is_looked_for_elsewhere() -> None:
    told = refusal(psycopg.OperationalError(f'{AT}FATAL:  password authentication failed for user "postgres"'))
    assert "PGPASSFILE" in told.todo


def test_of_several_addresses_the_one_that_answered_counts() -> None:
    refused = f"{AT.replace('10.0.0.5', '::1')}Connection refused"
    wrong = f'{AT}FATAL:  database "textmil" does not exist'
    for first, last in ((refused, wrong), (wrong, refused)):
        lines = [last, "Multiple connection attempts failed. All failures were:", f"- host: 'db': {first}", f"- host: 'db': {last}"]
        assert refusal(psycopg.OperationalError("\n".join(lines))).kind == "database"


def test_rules_that_leave_out_both_with_tls_and_without_ask_for_no_tls() -> None:
    entry = 'FATAL:  no pg_hba.conf entry for host "10.0.0.9", user "textmill_api", database "textmil"'
    assert refusal(psycopg.OperationalError(f"{AT}{entry}, SSL encryption\n{AT}{entry}, no encryption")).kind == "host_rules"


def test_an_error_that_sqlalchemy_wrapped_says_the_same() -> None:
    wrapped = DBAPIError.instance(None, None, psycopg.OperationalError(f"{AT}Connection refused"), psycopg.Error)
    assert isinstance(wrapped, OperationalError)
    assert refusal(wrapped).kind == "nobody_listens"


@pytest.mark.parametrize(
    ("login", "is_ours"), [("postgres", False), ("textmill_backup", False), ("textmill_api", True), ("textmill_owner", True)]
)
def test_bootstrap_is_named_for_the_roles_alone_whose_passwords_it_sets(login: str, is_ours: bool) -> None:
    told = refusal(psycopg.OperationalError(f'{AT}FATAL:  password authentication failed for user "{login}"'))
    assert login in told.found
    assert ("textmill db bootstrap" in told.todo) is is_ours
    assert ("PGPASSFILE" in told.todo) is not is_ours
    missing = refusal(psycopg.OperationalError(f'{AT}fe_sendauth: no password supplied for user "{login}"'))
    assert ("textmill db bootstrap" in missing.todo) is is_ours
