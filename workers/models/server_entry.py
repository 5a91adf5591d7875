"""An entry of the operator's registry file: a model that a server runs, where that is, and how it is spoken to."""

from ipaddress import ip_address
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

RESERVED: Final = ("local:", "head:")

Seconds = Annotated[float, Meta(gt=0, le=86_400)]


class ServerEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model, and the server that runs it.

    ``engine``: a server that speaks OpenAI's API at ``url``, or vLLM, which a worker starts itself from ``folder`` with ``arguments`` and
    speaks to on a socket. ``model``: what the server calls it; by default the id. ``key_file`` and ``key_variable``: where the worker finds
    the server's API key. ``ca_file``: what its certificate is held against in place of the system's authorities. ``plain_http``: texts may
    go over a network in the clear.

    ``max_tokens``: the longest text, where the operator says so: for whoever lists it, the server knows its own limits.
    ``timeout_seconds``: what one answer may take. ``hang_seconds``: a server that gives no sign of life for so long hangs.
    ``patience_seconds``: one that answers nothing for so long is away, and its shards are given back.
    """

    id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,100}$")]
    engine: Literal["server", "vllm"]
    tasks: Annotated[tuple[Literal["generate", "embed", "classify"], ...], Meta(min_length=1)] = ("generate",)
    url: str = ""
    folder: str = ""
    arguments: tuple[str, ...] = ()
    model: str = ""
    labels: tuple[str, ...] = ()
    dimensions: Annotated[int, Meta(ge=1, le=65_536)] | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    licence: str = "see the model's server"
    key_file: str = ""
    key_variable: str = ""
    ca_file: str = ""
    plain_http: bool = False
    timeout_seconds: Seconds = 600.0
    hang_seconds: Seconds = 60.0
    patience_seconds: Seconds = 20.0

    @property
    def named(self) -> str:
        """What the server calls the model."""
        return self.model or self.id

    def why_not(self) -> str | None:
        """Why it cannot be used, in a sentence."""
        if self.id.startswith(RESERVED):
            return f"no model of this file may be called {' or '.join(f'{start}…' for start in RESERVED)}"
        if self.engine == "vllm":
            return "vllm needs `folder`, and takes no `url`" if not self.folder or self.url else self._why_not_together()
        return _why_no_address(self.url, plain_http=self.plain_http) or self._why_not_together()

    def _why_not_together(self) -> str | None:
        if "generate" in self.tasks and len(self.tasks) > 1:
            return "a model that generates does no other task: name it a second time under another id"
        if bool(self.labels) and self.tasks != ("classify",):
            return '`labels` are a classifier\'s own, whose `tasks` are ["classify"]'
        if len(set(self.labels)) != len(self.labels) or len(self.labels) == 1:
            return "`labels` must be two at least, each once, in the server's order"
        if self.key_file and self.key_variable:
            return "either `key_file` or `key_variable` names the key"
        return None


def _why_no_address(url: str, *, plain_http: bool) -> str | None:
    """None of ``https://HOST[:PORT]/PATH``, ``http://`` on this machine, and ``unix:///SOCKET``."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "`url` is no address"
    if parts.scheme == "unix":
        return None if parts.path and not parts.netloc else "`url` of a socket is unix:///PATH"
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return "`url` must be https://HOST/v1, or http:// on this machine"
    if parts.username is not None or parts.query or parts.fragment:
        return "`url` may hold neither user, password, query nor fragment: a key goes into `key_file`"
    if parts.scheme == "http" and not plain_http and not _is_here(parts.hostname):
        return "texts would go over the network in the clear: use https://, or say `plain_http = true`"
    return None


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
