"""Redis or Valkey: whether it lets us in, and forgets nothing."""

import re
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from api.local.doctor.finding import Finding
from api.local.doctor.place import Place
from db.errors import SettingsError

if TYPE_CHECKING:
    import redis

SECONDS: Final = 4
OLDEST: Final = 7
_URL: Final = "TEXTMILL_REDIS_URL (or run/redis.url of the home)"
# How the driver (the error's class first), the server or TLS says it; what it is; what to do. The first that fits counts.
_KINDS: Final = tuple(
    (re.compile(shows, re.IGNORECASE), found, todo)
    for shows, found, todo in (
        (
            r"^Authentication|WRONGPASS|NOAUTH|without any password|HELLO must be called",
            "the server refuses the password, or the user",
            f"Put the right ones into {_URL}: `rediss://USER:PASSWORD@HOST:PORT/0`, other than letters and digits as %XX.",
        ),
        (
            r"^NoPermission|NOPERM",
            "the user may not do what textmill needs",
            "Give it the commands and the keys that deploy/redis/users.acl names.",
        ),
        (
            r"hostname mismatch|IP address mismatch|doesn't match|not valid for",
            "the server's certificate is for another host name",
            f"Name the server in {_URL} as its certificate does, or give it one for this name.",
        ),
        (
            r"CERTIFICATE_VERIFY_FAILED|self.signed|unable to get local issuer|certificate has expired",
            "the server's certificate was not signed by the CA in `ssl_ca_certs`, or has run out",
            f"Name the CA that did sign it in `ssl_ca_certs` of {_URL} (deploy/make-secrets makes ca.crt), or renew it.",
        ),
        (
            r"No such file or directory.*|Errno 2\b",
            "the socket, or the file with the CA's certificate (`ssl_ca_certs`), is not there",
            f"Put it there, or name the right one in {_URL}.",
        ),
        (
            r"WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|UNEXPECTED_EOF|EOF occurred|SSL",
            "what listens there does not speak TLS",
            f"Write `redis://` in {_URL} if the network between is yours alone, or turn TLS on as deploy/redis/redis.conf does.",
        ),
        (
            r"Name or service not known|getaddrinfo|name resolution|nodename nor servname|No address associated",
            "no machine is known by that name",
            f"Is the host in {_URL} spelt right, and does this machine's name service know it?",
        ),
        (r"Connection refused|Errno 111", "nothing listens there", f"Is it running, and are host and port in {_URL} right?"),
        (
            r"max number of clients",
            "the server has no connection left",
            "Raise its maxclients, or run fewer parts.",
        ),
        (
            r"DB index is out of range|invalid DB index",
            "the server has no database of that number",
            f"Write /0 at the end of {_URL}.",
        ),
        (r"LOADING|MASTERDOWN|BUSY", "the server is not ready yet", "Wait until it is; its log says more."),
        (
            r"Connection (closed|reset)|closed connection",
            "the server hung up at once",
            f"If it speaks TLS, write `rediss://` in {_URL}; its log says more.",
        ),
        (
            r"^Timeout|timed out",
            f"no answer within {SECONDS} s",
            f"Is a firewall between, does it speak TLS (`rediss://`) or not (`redis://`), and are host and port in {_URL} right?",
        ),
        (r"", "does not answer", f"Is it running, and is {_URL} right?"),
    )
)


def queue(place: Place) -> Iterator[Finding]:
    if not place.has_queue:
        if place.needs_queue:
            yield Finding("redis", False, "this part finds its queue nowhere", f"Name the server in {_URL}.")
        return
    yield _answers(place)


def _answers(place: Place) -> Finding:
    import redis

    try:
        url = place.settings.broker_url()
        with closing(redis.Redis.from_url(url, socket_timeout=SECONDS, socket_connect_timeout=SECONDS)) as client:
            client.ping()
            told = _info(client)
    except (ValueError, TypeError, SettingsError):
        return Finding("redis", False, f"{_URL} is no address of a server", "It looks like `rediss://:PASSWORD@HOST:6379/0`.")
    except (redis.RedisError, OSError) as error:
        found, todo = next((found, todo) for shows, found, todo in _KINDS if shows.search(f"{type(error).__name__}: {error}"))
        return Finding("redis", False, f"{_place(url)}: {found}", f"{todo} Work goes on without it, slower.")
    return _fit(told)


def _place(url: str) -> str:
    """Of the address what is no secret."""
    parts = urlsplit(url)
    return f"{parts.hostname}, port {parts.port or 6379}" if parts.hostname else parts.path


def _info(client: "redis.Redis") -> dict[str, str]:
    """What the server says of itself; empty where it keeps that to itself."""
    import redis

    try:
        told = client.info()
    except redis.ResponseError:
        return {}
    return {str(name): str(value) for name, value in told.items()} if isinstance(told, dict) else {}


def _fit(told: dict[str, str]) -> Finding:
    name = "Valkey" if "valkey_version" in told else "Redis"
    version = told.get("valkey_version") or told.get("redis_version", "")
    policy, major = told.get("maxmemory_policy"), version.partition(".")[0]
    found = f"{f'{name} {version}' if version else 'answers'}, maxmemory-policy {policy or 'unknown'}"
    if major.isdigit() and int(major) < OLDEST:
        return Finding("redis", False, found, f"Upgrade it: textmill needs Redis or Valkey {OLDEST} or newer.")
    if told.get("role") == "slave":
        return Finding("redis", False, f"{found}, a replica: it takes no messages", f"Name its master in {_URL}.")
    if policy not in ("noeviction", None):
        return Finding("redis", False, found, "Set `maxmemory-policy noeviction`: others lose work.")
    return Finding("redis", True, found)
