"""JSON bodies of requests: bounded, strict, and refused by field name only."""

import re
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import anyio
import msgspec
from fastapi import Request

from api.errors import Refused
from api.formats.json_text import is_deep
from api.requests.front import front_of

BODY_SECONDS: Final = 60.0
_PATH: Final = re.compile(r"`\$\.(\w+)[^`]*`$")
T = TypeVar("T", bound=msgspec.Struct)


def json_of(kind: type[T]) -> Callable[[Request], Awaitable[T]]:
    """A dependency: the body as ``kind``. Raises Refused; its message names fields of ``kind``, never the input."""
    decoder = msgspec.json.Decoder(kind)

    async def read(request: Request) -> T:
        body = await _bounded(request, front_of(request).settings.max_json_bytes)
        request.state.patience.renew()  # it may have come slowly
        return _decode(decoder, body)

    return read


async def _bounded(request: Request, max_bytes: int) -> bytes:
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Refused("compressed_body", "Send the body uncompressed.", status=415)
    body = bytearray()
    try:
        with anyio.fail_after(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > max_bytes:
                    raise Refused("body_too_large", f"The body of this request may have {max_bytes >> 10} KiB.", status=413)
    except TimeoutError:
        raise Refused("body_too_slow", "The body of this request did not arrive in time.", status=408) from None
    return bytes(body)


def _decode(decoder: "msgspec.json.Decoder[T]", body: bytes) -> T:
    fields = decoder.type.__struct_fields__
    try:
        decoded = decoder.decode(body)
    except msgspec.ValidationError as error:  # its sentence may quote the body: only a field name of ours is taken from it
        raise _refusal(str(error), fields) from None
    except RecursionError:
        raise Refused("too_deep", "The body is nested too deep.") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Refused("invalid_json", "The body is not valid JSON in UTF-8.") from None
    if is_deep(body):
        raise Refused("too_deep", "The body is nested too deep.")
    return decoded


def _refusal(sentence: str, fields: tuple[str, ...]) -> Refused:
    if sentence.startswith("Object missing required field"):
        name = next((name for name in fields if f"`{name}`" in sentence), None)
        return Refused("missing_field", f"The field {name} is missing." if name else "A field is missing.", param=name)
    found = _PATH.search(sentence)
    name = found.group(1) if found and found.group(1) in fields else None
    if sentence.startswith("Object contains unknown field"):
        where = f"The field {name} has" if name else "The body has"
        known = "" if name else f"; known are {', '.join(fields)}"
        return Refused("unknown_field", f"{where} a field that is not known here{known}. /docs/http tells more.", param=name)
    if name is None:
        return Refused("invalid_json", "The body must be a JSON object with the documented fields.")
    return Refused("invalid_field", f"The field {name} has the wrong type or is out of range.", param=name)
