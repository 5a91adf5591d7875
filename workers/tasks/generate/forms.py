"""What the answer must look like, by whichever public name that was asked for. Light: nothing is compiled here."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, Literal

from workers.grammars.grammar import Grammar, Kind
from workers.tasks.public_fields import FIELDS

# A failure code where it is no such thing; False where free text is asked for, which None says nothing of.
Form = Grammar | Literal[False] | str | None
_ANY_OBJECT: Final[Mapping[str, Any]] = {"type": "object"}
_STRUCTURED: Final[Mapping[str, Kind]] = {"json": "json", "regex": "regex", "choice": "choice", "grammar": "grammar"}
_OF_SCHEMA: Final = frozenset({"name", "description", "schema", "strict"})
_FORMATS: Final = '"text" or "json_object" or "json_schema"'


def grammar_of(body: object) -> Form:
    """``body``: of whichever endpoint; not each has all of the names."""
    asked: Grammar | Literal[False] | None = None
    for name, read in _READERS.items():
        value = getattr(body, name, None)
        form = None if value is None else read(value)
        if isinstance(form, str):
            return form
        if form and asked:
            return f"invalid_field:{name}:left out beside `{asked.field}`"
        asked = asked if form is None else asked or form
    return asked


def _response_format(value: Mapping[str, Any]) -> Form:
    if value.get("type") != "json_schema":
        return _plain_format(value, "response_format")
    named = value.get("json_schema")
    path = "response_format.json_schema"
    return _strange(value, "response_format", {"type", "json_schema"}) or _schema_of(
        named if isinstance(named, Mapping) else {}, "response_format", path, _OF_SCHEMA
    )


def _text(value: Mapping[str, Any]) -> Form:
    """Of `/v1/responses`."""
    form, verbosity = value.get("format"), value.get("verbosity")
    if verbosity not in (None, *FIELDS["verbosity"].nothing):
        return f'unsupported_field:text.verbosity:"medium"|{FIELDS["verbosity"].reason}'
    if (code := _strange(value, "text", {"format", "verbosity"})) is not None or form is None:
        return code
    if not isinstance(form, Mapping):
        return "invalid_field:text.format:an object"
    if form.get("type") == "json_schema":
        return _schema_of(form, "text", "text.format", {"type", *_OF_SCHEMA})
    return _plain_format(form, "text.format")


def _plain_format(value: Mapping[str, Any], field: str) -> Form:
    match value.get("type"):
        case "text":
            return _strange(value, field, {"type"}) or False
        case "json_object" if value.get("schema") is not None:  # as llama.cpp's server has it
            return _schema_of(value, field, field, {"type", "schema"})
        case "json_object":
            return _strange(value, field, {"type", "schema"}) or Grammar("json", _ANY_OBJECT, field)
        case _:
            return f"unsupported_field:{field}.type:{_FORMATS}"


def _schema_of(value: Mapping[str, Any], field: str, path: str, names: Collection[str]) -> Form:
    schema = value.get("schema")
    if not isinstance(schema, Mapping):
        return f"invalid_field:{path}.schema:an object"
    return _strange(value, path, names) or Grammar("json", schema, field)


def _strange(value: Mapping[str, Any], path: str, names: Collection[str]) -> str | None:
    """The failure code of what nothing would be done about."""
    if all(one is None or name in names for name, one in value.items()):
        return None
    return f"invalid_field:{path}:an object with {' and '.join(sorted(names))} alone"


def _structured_outputs(value: Mapping[str, Any]) -> Form:
    given = {name: one for name, one in value.items() if one is not None and one is not False}
    if not given:
        return None
    [(name, one), *more] = given.items()
    if more or name not in (*_STRUCTURED, "json_object"):
        return f"unsupported_field:structured_outputs:an object with one of {', '.join(_STRUCTURED)}"
    if name == "json_object":
        return Grammar("json", _ANY_OBJECT, "structured_outputs")
    wanted = (str, Mapping) if name == "json" else list if name == "choice" else str
    if not isinstance(one, wanted) or (name == "choice" and not all(isinstance(each, str) for each in one)):
        return f"invalid_field:structured_outputs.{name}:{'a list of texts' if name == 'choice' else 'text'}"
    return Grammar(_STRUCTURED[name], one, "structured_outputs")


_READERS: Final[Mapping[str, Callable[[Any], Form]]] = {
    "response_format": _response_format,
    "text": _text,
    "guided_json": lambda value: Grammar("json", value, "guided_json"),
    "guided_regex": lambda value: Grammar("regex", value, "guided_regex"),
    "guided_choice": lambda value: Grammar("choice", value, "guided_choice") if value else None,
    "guided_grammar": lambda value: Grammar("grammar", value, "guided_grammar"),
    "structured_outputs": _structured_outputs,
}
