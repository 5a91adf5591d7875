"""Masks of a job over what its rows hold, and back again.

A job that masks has a key of its own in its sealed spec. Under it the same value has the same mask in all of its rows, and whoever may read
both a row and the spec finds the masks again: none is kept anywhere.
"""

import secrets
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from workers.redaction.masking import Masker, put_back, standing_in
from workers.redaction.span import KINDS, Kind

KEY_BYTES: Final = 32
_NAMES: Final = frozenset({"model", "label_set"})  # fields of a body that name something, and no model reads
_TOKENS: Final = ("input", "prompt")
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode
_decode_any: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.Encoder().encode


class Redact(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What a batch asks for."""

    kinds: Annotated[list[Kind], Meta(min_length=1, max_length=100, description="Of what is masked; all without it.")] | None = None


def redact_spec(asked: Redact) -> dict[str, object]:
    """What the spec of a job, or of each step of one, holds of it: with a new key."""
    return {"kinds": sorted(set(asked.kinds or KINDS)), "key": secrets.token_hex(KEY_BYTES)}


class Unmaskable(ValueError):
    """``code``: of the failure that the row gets. In what cannot be read nothing can be masked, and no model may see it."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class JobMasks:
    """``redact``: of a job's spec."""

    def __init__(self, redact: Mapping[str, Any]) -> None:
        self._masker = Masker(bytes.fromhex(redact["key"]), redact["kinds"])

    def of_row(self, body: bytes | None, kept: bytes | None) -> "RowMasks":
        """Of a row as it was uploaded: its body, and its other columns as they are kept. A mask that stands there already is given to no
        value of it."""
        return RowMasks(self._masker, standing_in(*((part or b"").decode("utf-8", "replace") for part in (body, kept))))

    def of_answer(self, answer: bytes) -> bytes:
        """What another job said of the row; as it is where nothing in it is masked. Masks that it has are this job's, where both are steps
        of one. Raises Unmaskable."""
        masks = RowMasks(self._masker, ())
        masked = masks.body(answer)
        return masked if masks.values else answer


class RowMasks:
    """``values``: what stood in the place of each mask that was made; as sensitive as the row is."""

    def __init__(self, masker: Masker, standing: Collection[str]) -> None:
        self._masker = masker
        self._standing = standing
        self.values: dict[str, str] = {}

    def body(self, body: bytes) -> bytes:
        """With every text masked that is in it. Raises Unmaskable."""
        try:
            fields = _decode(body)
        except RecursionError:
            raise Unmaskable("too_deep") from None
        except UnicodeDecodeError:
            raise Unmaskable("invalid_utf8") from None
        except msgspec.DecodeError:
            raise Unmaskable("invalid_json") from None
        for name in _TOKENS:
            if isinstance(given := fields.get(name), list) and any(isinstance(one, int | list) for one in given):
                raise Unmaskable(f"unsupported_field:{name}:text|because the job masks texts, and tokens are none")
        return _encode(
            {name: value if name in _NAMES or isinstance(value, int | float) else self.cell(value) for name, value in fields.items()}
        )

    def columns(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        """By their names, which stay."""
        return {name: self.cell(value) for name, value in columns.items()}

    def cell(self, value: Any) -> Any:
        """With every text masked that is within it, names of fields among them; a number becomes a text where something of it is masked."""
        if isinstance(value, str):
            masked = self._masker.mask(value, self._standing)
            self.values = {**masked.values, **self.values}  # of two spellings the first comes back
            return masked.text
        if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
            text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
            masked = self.cell(text)
            return value if masked == text else masked
        if isinstance(value, Mapping):
            return {self.cell(name): self.cell(one) for name, one in value.items()}
        return [self.cell(one) for one in value] if isinstance(value, list | tuple) else value


def values_of(masks: RowMasks, parts: Sequence[bytes | None]) -> Mapping[str, str]:
    """What masks of a row stand for, by all that the row holds: its body, and its other columns."""
    for part in parts:
        try:
            masks.cell(None if part is None else _decode_any(part))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # of a line that could not be read, and no model has seen
            continue
    return masks.values


def unmasked(answer: bytes, values: Mapping[str, str]) -> bytes:
    """An answer's JSON with values in the place of their masks."""
    return put_back(answer.decode(), {mask: _encode(value)[1:-1].decode() for mask, value in values.items()}).encode() if values else answer
