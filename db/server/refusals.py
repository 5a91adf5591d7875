"""Why a database server lets nobody in: of which kind it is, in words, and what to do. Names of hosts, roles, databases and files; never a
password."""

import re
from dataclasses import dataclass
from typing import Final

import psycopg
from sqlalchemy.exc import OperationalError

from db.settings import Role

_LOGINS: Final = {role.login: role for role in Role}


@dataclass(frozen=True, slots=True)
class Refusal:
    """``kind``: a stable word. ``found``: half a sentence. ``todo``: a whole one."""

    kind: str
    found: str
    todo: str

    @property
    def sentence(self) -> str:
        return f"The database cannot be used: {self.found}. {self.todo}"


@dataclass(frozen=True, slots=True)
class _Kind:
    """``shows``: how a server, a pooler or libpq says it. Its groups, and ``login`` and ``password_place``, are put into the words."""

    name: str
    shows: str
    found: str
    todo: str


# The first that fits counts. What a server itself says comes first: of several addresses, or with TLS and without, one may have answered.
_KINDS: Final = (
    _Kind(
        "no_password",
        r"no password supplied|empty password returned",
        "no password of {login} is here",
        "Put it into {password_place}{sets_it}.",
    ),
    _Kind(
        "password",
        r'password authentication failed|(?:SASL|SCRAM) authentication failed|no such user|role "[^"]*" does not exist',
        "the server refuses {login}: its password is another one, or there is no such role",
        "Put the right one into {password_place}{makes_it}.",
    ),
    _Kind(
        "no_login",
        r"is not permitted to log in",
        "{login} may not log in",
        "Run `textmill db bootstrap`, or ALTER ROLE {login} LOGIN as the server's superuser.",
    ),
    _Kind(
        "database",
        r'database "(?P<database>[^"]*)" does not exist|no such database: (?P<pooled>\S+)',
        "there is no database “{database}{pooled}” on this server",
        "Name the right one in TEXTMILL_DATABASE_URL; `textmill db bootstrap` makes one called textmill.",
    ),
    _Kind(
        "no_right",
        r'permission denied for database "(?P<database>[^"]*)"',
        "{login} has no right to the database “{database}”",
        "Is it the one that `textmill db bootstrap` made? It grants the right; TEXTMILL_DATABASE_URL names the database.",
    ),
    _Kind(
        "too_many_clients",
        r"too many clients|remaining connection slots|too many connections for|no more connections allowed|query_wait_timeout",
        "the server has no connection left ({said})",
        "Raise max_connections (API 16, dispatcher 8, each worker 11, and room), a pooler's limits or the role's, or run fewer parts.",
    ),
    _Kind(
        "starting",
        r"starting up|shutting down|not (?:yet )?accepting connections|in recovery mode",
        "the server is starting or stopping ({said})",
        "Wait until it is up; its log says how far it is.",
    ),
    _Kind(
        "needs_tls",
        r"SSL required|(?s:\A(?!.*SSL encryption).*(?:no encryption|SSL off))",
        "the server lets nobody in without TLS",
        "Add `?sslmode=verify-full&sslrootcert=/path/to/ca.crt` to TEXTMILL_DATABASE_URL.",
    ),
    _Kind(
        "host_rules",
        r"no pg_hba\.conf entry|pg_hba\.conf rejects|no authentication method",
        "the server's rules do not let {login} in from this machine",
        "Add a line to its pg_hba.conf, as deploy/postgres/pg_hba.conf has them, and reload it; is the database the right one?",
    ),
    _Kind(
        "startup_parameter",
        r"unsupported startup parameter(?: in options)?: ?(?P<parameter>\w+)",
        "a pooler before the server refuses the parameter “{parameter}” of TEXTMILL_DATABASE_URL",
        "Take it out of the address: textmill needs none.",
    ),
    _Kind(
        "behind_pooler",
        r"server_login_retry|server login|cannot connect to server|server conn crashed|client_login_timeout",
        "a pooler answers, and does not reach the server behind it ({said})",
        "Is that server up, and does the pooler have the right address and passwords? Its log says more.",
    ),
    _Kind(
        "host_name",
        r'server certificate for (?P<names>.+?) does not match host name "(?P<host>[^"]*)"',
        "the server's certificate is for {names}, not for the host “{host}”",
        "Name the server in TEXTMILL_DATABASE_URL as its certificate does, or give it one for this name.",
    ),
    _Kind(
        "no_ca",
        r'root certificate file "(?P<file>[^"]*)" does not exist|could not read root certificate file "(?P<unread>[^"]*)"',
        "the file with the CA's certificate cannot be read: {file}{unread}",
        "Put the certificate of the CA that signed the server's there, or name it in `sslrootcert` of TEXTMILL_DATABASE_URL.",
    ),
    _Kind(
        "ca",
        r"certificate verify failed|self[- ]signed certificate",
        "the server's certificate was not signed by the CA in `sslrootcert`, or has run out",
        "Name the CA that did sign it in `sslrootcert` of TEXTMILL_DATABASE_URL (deploy/make-secrets makes ca.crt), or renew it.",
    ),
    _Kind(
        "client_certificate",
        r"client certificate|alert unknown ca|alert certificate required|private key file",
        "the server asks for a certificate of the client, and does not get one that it takes ({said})",
        "Name one in `sslcert` and `sslkey` of TEXTMILL_DATABASE_URL, or let the server ask for a password alone.",
    ),
    _Kind(
        "no_tls",
        r"server does not support SSL",
        "the server has no TLS, and TEXTMILL_DATABASE_URL asks for it",
        "Turn TLS on there, as deploy/postgres/tls.conf does; or take `sslmode` out, where nobody listens on the network between.",
    ),
    _Kind(
        "read_only",
        r"session is (?:read-only|not read-write)|server is (?:in hot standby|not in hot standby)",
        "no server of the address takes writes",
        "Name the primary in TEXTMILL_DATABASE_URL.",
    ),
    _Kind(
        "unknown_host",
        r"failed to resolve host '(?P<host>[^']*)'|could not translate host name \"(?P<named>[^\"]*)\"",
        "no machine is known by the name “{host}{named}”",
        "Is the host in TEXTMILL_DATABASE_URL spelt right, and does this machine's name service know it?",
    ),
    _Kind(
        "nobody_listens",
        r"Connection refused|No such file or directory",
        "nothing listens at {place}",
        "Is the server running, and are host and port of TEXTMILL_DATABASE_URL right?",
    ),
    _Kind(
        "silent",
        r"timeout expired|timed out|No route to host|Network is unreachable|Host is down",
        "no answer from {place}",
        "Is a firewall between, are host and port of TEXTMILL_DATABASE_URL right, and does a pooler there reach its server?",
    ),
    _Kind(
        "no_postgres",
        r"expected authentication request|received invalid response|unexpected response|server closed the connection",
        "what listens at {place} does not answer as PostgreSQL does",
        "Are host and port of TEXTMILL_DATABASE_URL right? If they are, the server's log says why it hung up.",
    ),
    _Kind("unknown", r"", "{said}", "Is the server running, and is TEXTMILL_DATABASE_URL right? The server's log says more."),
)


def refusal(error: OperationalError | psycopg.OperationalError) -> Refusal:
    """Of an attempt to connect that failed."""
    driver = error.orig if isinstance(error, OperationalError) else error
    told = str(driver).strip()
    kind, match = next((kind, match) for kind in _KINDS if (match := re.search(kind.shows, told)))
    attempt = getattr(driver, "pgconn", None)
    named = re.search(r'(?:user|role) "([^"]*)"', told)
    login = named[1] if named else _text(attempt, "user") or "the login role"
    words = {
        **{name: value or "" for name, value in match.groupdict().items()},
        "said": _in_a_line(told),
        "login": login,
        "place": _place(told, attempt),
        "password_place": _password_place(login),
        "sets_it": "; `textmill db bootstrap` sets it" if login in _LOGINS else "",
        "makes_it": "; `textmill db bootstrap` makes the role and sets its password" if login in _LOGINS else "",
    }
    return Refusal(kind.name, kind.found.format(**words), kind.todo.format(**words))


def _password_place(login: str) -> str:
    role = _LOGINS.get(login)
    if role is None:
        return "the address, or into the file that PGPASSFILE names"
    return f"secrets/db-{role.value} of the home, or TEXTMILL_DB_PASSWORD_{role.name}"


def _place(told: str, attempt: object) -> str:
    """Where the last attempt went."""
    found = re.search(r'connection to server (?:at|on) (?:socket )?"([^"]*)"(?: \([^)]*\))?(?:, port (\d+))?', told)
    if found:
        return f"{found[1]}{f', port {found[2]}' if found[2] else ''}"
    host, port = _text(attempt, "host"), _text(attempt, "port")
    return f"{host}, port {port}" if host else "the address in TEXTMILL_DATABASE_URL"


def _text(attempt: object, name: str) -> str:
    value = getattr(attempt, name, b"")
    return value.decode(errors="replace") if isinstance(value, bytes) else ""


def _in_a_line(told: str) -> str:
    """What the server said, without where it said it."""
    first = told.partition("\n")[0]
    return re.sub(r"^connection (?:failed|is bad): |connection to server .*? failed: |\b(?:FATAL|ERROR):  ?", "", first).strip(" .")
