"""All that is sensitive in a text, each part once."""

from collections.abc import Callable, Collection, Iterator
from typing import Final

from workers.redaction.cards import find_cards
from workers.redaction.emails import find_emails
from workers.redaction.folding import folded
from workers.redaction.ibans import find_ibans
from workers.redaction.ips import find_ips
from workers.redaction.keys import find_keys
from workers.redaction.national_ids import find_national_ids
from workers.redaction.phones import find_phones
from workers.redaction.span import KINDS, Kind, Span
from workers.redaction.urls import find_urls

_FINDERS: Final[dict[Kind, Callable[[str], Iterator[Span]]]] = {
    "url": find_urls,
    "key": find_keys,
    "iban": find_ibans,
    "card": find_cards,
    "national_id": find_national_ids,
    "email": find_emails,
    "ip": find_ips,
    "phone": find_phones,
}
_RANK: Final = {kind: place for place, kind in enumerate(KINDS)}


def find(text: str, kinds: Collection[Kind] = KINDS) -> list[Span]:
    """In order, none over another. A value that a line break cuts in two is not recognised."""
    plain, places = folded(text)
    found = [span for kind in KINDS if kind in kinds for span in _FINDERS[kind](plain)]
    if not found:
        return found
    apart = _apart(found)
    return apart if places is None else [Span(kind, places[start], places[end - 1] + 1) for kind, start, end in apart]


def _apart(found: list[Span]) -> list[Span]:
    """Of those that overlap one is made, of the kind of the longest (of equals the most specific), over all that any of them covers: what
    one has found another does not uncover."""
    found.sort(key=lambda span: span.start)
    apart: list[Span] = []
    longest = found[0]
    start, end = longest.start, longest.end
    for span in found[1:]:
        if span.start >= end:
            apart.append(Span(longest.kind, start, end))
            longest, start, end = span, span.start, span.end
            continue
        end = max(end, span.end)
        if _weight(span) > _weight(longest):
            longest = span
    return [*apart, Span(longest.kind, start, end)]


def _weight(span: Span) -> tuple[int, int]:
    return span.end - span.start, -_RANK[span.kind]
