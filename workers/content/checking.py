"""Checks at work: whether the answers of a row pass them all, and which one they do not.

Patterns run in RE2, whose time is linear in the text; how much it is for each character is bounded by what a pattern may repeat. Schemas
run in `jsonschema-rs` with patterns of the same kind, and refer to nothing outside themselves. Languages are told by `py3langid`. Those two
are the extra `checks`, and imported where a check asks for them.
"""

import json
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from typing import Any, Final, NamedTuple

from workers.content.checks import (
    AnyCheck,
    Forbidden,
    InvalidChecks,
    JsonSchema,
    Language,
    Length,
    Regex,
    Required,
    UnlikeOthers,
    UnlikePrompt,
    bare,
    has_phrase,
    kind_of,
)
from workers.content.likeness import Remembered, runs, signature_of, similarity
from workers.content.patterns import MAX_REPEATS, NoPattern, repeats_of, search_of

MAX_SCHEMA_CHARS: Final = 65_536
NEARLY: Final = 0.2  # of the likeliest language's probability

Passes = Callable[[str, Sequence[str]], bool]  # of an answer, and the parts of its prompt


class NotInstalled(Exception):
    """``place``: of the check that needs the extra."""

    def __init__(self, place: int) -> None:
        super().__init__()
        self.place = place


class Failed(NamedTuple):
    """The check that an answer did not pass: its place in the job's list, and its kind."""

    place: int
    kind: str


class Checker:
    """Of one shard: it remembers the answers that passed. Raises InvalidChecks where one cannot be had, NotInstalled."""

    def __init__(self, checks: Sequence[AnyCheck]) -> None:
        self._remembered = Remembered()
        self._passes = [(_built(place, check, self._remembered), kind_of(check)) for place, check in enumerate(checks)]
        self._remembers = any(isinstance(check, UnlikeOthers) for check in checks)

    def failed(self, answers: Sequence[tuple[str, Sequence[str]]]) -> Failed | None:
        """``answers``: of a row, each with the parts of its prompt. The first check, in the job's order, that one of them does not pass.
        Later rows must be unlike what passed."""
        for place, (passes, kind) in enumerate(self._passes):
            if not all(passes(*answer) for answer in answers):
                return Failed(place, kind)
        if self._remembers:
            for text, _ in answers:
                self._remembered.add(signature_of(text))
        return None


def _built(place: int, check: AnyCheck, remembered: Remembered) -> Passes:
    match check:
        case Length(unit="words"):
            return lambda text, _: _within(check, len(text.split()))
        case Length():
            return lambda text, _: _within(check, len(text.strip()))
        case Required():
            return lambda text, _: all(has_phrase(plain, phrase) for plain in [bare(text)] for phrase in check.words)
        case Forbidden():
            return lambda text, _: not any(has_phrase(plain, phrase) for plain in [bare(text)] for phrase in check.words)
        case Regex():
            return _regex(place, check)
        case JsonSchema():
            return _json_schema(place, check)
        case Language():
            return _language(place, check)
        case UnlikePrompt():
            return lambda text, prompt: all(similarity(runs(text), runs(part)) < check.similarity for part in prompt)
        case UnlikeOthers():
            return lambda text, _: remembered.most_similar(signature_of(text)) < check.similarity


def _within(check: Length, count: int) -> bool:
    return (check.min is None or count >= check.min) and (check.max is None or count <= check.max)


def _regex(place: int, check: Regex) -> Passes:
    if repeats_of(check.pattern) > MAX_REPEATS:
        raise InvalidChecks(place, "pattern", f"The counted repeats of `pattern` come to more than {MAX_REPEATS:,}.")
    try:
        search = search_of(check.pattern)
    except NoPattern:
        raise InvalidChecks(
            place, "pattern", "`pattern` is no regular expression of RE2's: it does not look around or refer back."
        ) from None
    return lambda text, _: (search(text.strip()) is not None) is check.found


def _json_schema(place: int, check: JsonSchema) -> Passes:
    try:
        jsonschema: Any = import_module("jsonschema_rs")
    except ImportError:
        raise NotInstalled(place) from None
    try:
        if len(json.dumps(check.schema)) > MAX_SCHEMA_CHARS:
            raise InvalidChecks(place, "schema", f"The schema has more than {MAX_SCHEMA_CHARS:,} characters.")
        validator = jsonschema.validator_for(check.schema, pattern_options=jsonschema.RegexOptions(), offline=True)
    except (ValueError, RecursionError) as error:
        if isinstance(error, InvalidChecks):
            raise
        sentence = "It is no JSON schema, or one that refers outside itself or has a pattern that looks around or refers back."
        raise InvalidChecks(place, "schema", sentence) from None  # the error quotes the schema

    def passes(text: str, _prompt: Sequence[str]) -> bool:
        try:
            return bool(validator.is_valid(json.loads(text, parse_constant=_no_json)))
        except (ValueError, RecursionError):
            return False

    return passes


def _no_json(_name: str) -> None:
    raise ValueError


def _language(place: int, check: Language) -> Passes:
    try:
        identifier = _identifier()
    except ImportError:
        raise NotInstalled(place) from None
    wanted = set(check.any_of)
    if unknown := wanted.difference(identifier.labels):
        raise InvalidChecks(place, "any_of", f"{len(unknown)} of `any_of` cannot be told: name languages as ISO 639-1 does, such as de.")

    def passes(text: str, _prompt: Sequence[str]) -> bool:
        ranked = identifier.rank(text)  # (language, probability), the likeliest first
        return any(language in wanted for language, probability in ranked if probability >= NEARLY * ranked[0][1])

    return passes


@cache
def _identifier() -> Any:
    """Loaded once: it takes a second."""
    langid: Any = import_module("py3langid.langid")
    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)
