"""The checks of a job: what each asks of an answer, read from what was sent, and refused where no answer could pass them all. Light."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec
from msgspec import Meta

MAX_CHECKS: Final = 20
MAX_TRIES: Final = 10
MAX_WORDS: Final = 1_000  # phrases of one check
MAX_PHRASE_CHARS: Final = 256
MAX_PATTERN_CHARS: Final = 1_000

Bound = Annotated[int, Meta(ge=0, le=10_000_000)]
Phrases = Annotated[list[Annotated[str, Meta(min_length=1, max_length=MAX_PHRASE_CHARS)]], Meta(min_length=1, max_length=MAX_WORDS)]
Similarity = Annotated[float, Meta(gt=0.0, le=1.0)]


class Check(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True, tag_field="check"):
    """``means``: for the reference."""

    means: ClassVar[str] = ""


class Length(Check, frozen=True, kw_only=True, tag="length"):
    means: ClassVar[str] = "From `min` to `max`, either of which may be left out. A word is what stands between white space."

    unit: Literal["words", "characters"] = "words"
    min: Bound | None = None
    max: Bound | None = None


class Language(Check, frozen=True, kw_only=True, tag="language"):
    means: ClassVar[str] = (
        "Written in one of these languages, as ISO 639-1 has them (`de`). A language that is nearly as likely as the likeliest passes, too:"
        " of one short sentence nobody can tell Dutch from Afrikaans. Needs `textmill[checks]`."
    )

    any_of: Annotated[list[Annotated[str, Meta(pattern="^[a-z]{2,3}$")]], Meta(min_length=1, max_length=20)]


class Required(Check, frozen=True, kw_only=True, tag="required"):
    means: ClassVar[str] = "Each of these words or phrases is in it, as whole words, in capital letters or small ones."

    words: Phrases


class Forbidden(Check, frozen=True, kw_only=True, tag="forbidden"):
    means: ClassVar[str] = "None of these words or phrases is in it, as whole words, in capital letters or small ones."

    words: Phrases


class Regex(Check, frozen=True, kw_only=True, tag="regex"):
    means: ClassVar[str] = (
        "The pattern is found in it; with `found` false it is not. RE2's syntax: no looking around, no references back. `^` and `$` are the"
        " ends of the text."
    )

    pattern: Annotated[str, Meta(min_length=1, max_length=MAX_PATTERN_CHARS)]
    found: bool = True


class JsonSchema(Check, frozen=True, kw_only=True, tag="json_schema"):
    means: ClassVar[str] = "It is JSON that meets the schema, which refers to nothing outside itself. Needs `textmill[checks]`."

    schema: dict[str, Any]


class UnlikePrompt(Check, frozen=True, kw_only=True, tag="unlike_prompt"):
    means: ClassVar[str] = (
        "It is less similar than this to each part of its prompt: of all runs of five characters in the two, the share that is in both."
    )

    similarity: Similarity = 0.8


class UnlikeOthers(Check, frozen=True, kw_only=True, tag="unlike_others"):
    means: ClassVar[str] = (
        "It is less similar than this to each text that passed before of other rows of the same shard, by the same measure, which MinHash"
        " estimates."
    )

    similarity: Similarity = 0.8


AnyCheck = Length | Language | Required | Forbidden | Regex | JsonSchema | UnlikePrompt | UnlikeOthers
KINDS: Final[Mapping[str, type[Check]]] = {
    kind.__struct_config__.tag: kind  # type: ignore[misc]  # each has one, a text
    for kind in (Length, Language, Required, Forbidden, Regex, JsonSchema, UnlikePrompt, UnlikeOthers)
}


class InvalidChecks(ValueError):
    """``place``: of the check at fault in the job's list; ``field``: of it, or nothing. ``sentence``: holds nothing that was sent."""

    def __init__(self, place: int, field: str, sentence: str) -> None:
        super().__init__(sentence)
        self.place = place
        self.field = field
        self.sentence = sentence

    @property
    def param(self) -> str:
        return f"checks[{self.place}]" + (f".{self.field}" if self.field else "")


def kind_of(check: Check) -> str:
    return str(check.__struct_config__.tag)


def read_checks(given: Sequence[Mapping[str, object]]) -> list[AnyCheck]:
    """Raises InvalidChecks for what is none, and for those that no answer can pass together."""
    if len(given) > MAX_CHECKS:
        raise InvalidChecks(MAX_CHECKS, "", f"A job has {MAX_CHECKS} checks at most.")
    checks = [_read(place, one) for place, one in enumerate(given)]
    for contradiction in _contradictions(checks):
        raise contradiction
    return checks


def _read(place: int, given: Mapping[str, object]) -> AnyCheck:
    named = given.get("check")
    kind = KINDS.get(named) if isinstance(named, str) else None
    if kind is None:
        raise InvalidChecks(place, "check", f"`check` must be one of {', '.join(KINDS)}.")
    fields = kind.__struct_fields__
    if strange := given.keys() - {"check", *fields}:
        raise InvalidChecks(
            place, "", f"It has {len(strange)} field(s) that are not known here; known are {', '.join(('check', *fields))}."
        )
    for field in fields:  # one by one: the decoder's sentence may quote what was sent
        try:
            if field in given:
                msgspec.convert(given[field], _type_of(kind, field))
        except msgspec.ValidationError:
            raise InvalidChecks(place, field, f"`{field}` has the wrong type, or is out of its range.") from None
    try:
        read = msgspec.convert(given, kind)
    except msgspec.ValidationError:
        missing = ", ".join(f"`{field.name}`" for field in msgspec.structs.fields(kind) if field.required)
        raise InvalidChecks(place, "", f"It needs {missing}.") from None
    assert isinstance(read, AnyCheck)
    return read


def _type_of(kind: type[Check], field: str) -> Any:
    return next(one.type for one in msgspec.structs.fields(kind) if one.name == field)


# What no answer can pass.


@dataclass(slots=True)
class _Room:
    """What lengths leave, of words or of characters."""

    least: int = 0
    most: int | None = None

    def narrow(self, check: Length) -> bool:
        """Whether something is left."""
        self.least = max(self.least, check.min or 0)
        if check.max is not None:
            self.most = check.max if self.most is None else min(self.most, check.max)
        return self.most is None or 0 < self.most >= self.least


def _contradictions(checks: Sequence[AnyCheck]) -> Iterator[InvalidChecks]:
    rooms = {"words": _Room(), "characters": _Room()}
    languages: set[str] | None = None
    for place, check in enumerate(checks):
        match check:
            case Length():
                if check.min is None and check.max is None:
                    yield InvalidChecks(place, "", "It asks for nothing: give `min` or `max`.")
                if not rooms[check.unit].narrow(check):
                    yield InvalidChecks(place, "max", f"No text has so many {check.unit}: `max` leaves none, or less than `min`.")
                most = rooms["characters"].most
                if most is not None and (least := 2 * rooms["words"].least - 1) > most:
                    yield InvalidChecks(place, "", f"No text passes: so many words have {least} characters at least.")
            case Language():
                languages = set(check.any_of) if languages is None else languages & set(check.any_of)
                if not languages:
                    yield InvalidChecks(place, "any_of", "No text passes: an earlier check asks for other languages.")
            case Required() | Forbidden() if any(not bare(phrase) for phrase in check.words):
                yield InvalidChecks(place, "words", "One of `words` is blank.")
    yield from _contradicted_words(checks, rooms["characters"].most)


def _contradicted_words(checks: Sequence[AnyCheck], most_chars: int | None) -> Iterator[InvalidChecks]:
    forbidden = [phrase for check in checks if isinstance(check, Forbidden) for phrase in check.words]
    for place, check in enumerate(checks):
        if isinstance(check, Required):
            for phrase in check.words:
                if any(has_phrase(bare(phrase), one) for one in forbidden):
                    yield InvalidChecks(place, "words", "No text passes: a word that one check requires, another forbids.")
                if most_chars is not None and len(phrase.strip()) > most_chars:
                    yield InvalidChecks(place, "words", "No text passes: one of `words` is longer than a text may be.")


# Words, as people compare them.


def bare(text: str) -> str:
    """In small letters, as Unicode folds them, with single spaces."""
    return " ".join(text.casefold().split())


def has_phrase(text: str, phrase: str) -> bool:
    """Whether it is there as whole words. ``text``: bare. Scripts without spaces have no ends of words."""
    wanted = bare(phrase)
    at = text.find(wanted)
    while at >= 0:
        end = at + len(wanted)
        if not (at and _goes_on(text[at - 1], wanted[0])) and not (end < len(text) and _goes_on(wanted[-1], text[end])):
            return True
        at = text.find(wanted, at + 1)
    return False


def _goes_on(left: str, right: str) -> bool:
    """Whether a word goes on between the two."""
    return all((sign.isalnum() or sign == "_") and not _is_unspaced(sign) for sign in (left, right))


def _is_unspaced(sign: str) -> bool:
    """Of Thai, Lao, Burmese, Khmer, and of what is written in Chinese and Japanese."""
    return any(first <= sign <= last for first, last in _UNSPACED)


_UNSPACED: Final = (
    ("\u0e00", "\u0eff"),
    ("\u1000", "\u109f"),
    ("\u1780", "\u17ff"),
    ("\u3040", "\u30ff"),
    ("\u3400", "\u9fff"),
    ("\U00020000", "\U0003ffff"),
)
