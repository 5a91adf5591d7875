"""URLs that let in whoever has them: with a password before the host, or a token among the parameters. Others are left as they are."""

import re
from collections.abc import Iterator
from typing import Final

from workers.redaction.span import Span

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,19}\Z")
_SCHEME_CHARS: Final = 20
_REST: Final = re.compile(r"://[^\s<>\"'`]+")
_USER: Final = re.compile(r"://[^\s/?#@:]{0,256}:[^\s/?#@]{1,256}@")
_PARAMETER: Final = re.compile(
    r"[?&#;](?:access_token|refresh_token|id_token|token|auth|api_?key|apikey|key|secret|client_secret|sig|signature|pass|passw(?:or)?d|pwd|"
    r"code|session|session_id|sid|x-amz-signature|x-amz-security-token|x-goog-signature)=[^&#;\s]",
    re.IGNORECASE,
)
_HOOK: Final = re.compile(r"://hooks\.slack\.com/services/[A-Za-z0-9/]{20}")
_AFTER: Final = ".,:;!?)]}'»”"


def find_urls(text: str) -> Iterator[Span]:
    at = text.find("://")
    while at >= 0:
        rest = _REST.match(text, at)
        scheme = _SCHEME.search(text[max(0, at - _SCHEME_CHARS) : at])
        if rest and scheme and (_USER.match(rest[0]) or _PARAMETER.search(rest[0]) or _HOOK.match(rest[0])):
            yield Span("url", at - len(scheme[0]), at + len(rest[0].rstrip(_AFTER)))
        at = text.find("://", rest.end() if rest else at + 1)
