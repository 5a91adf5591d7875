"""From what was asked for to a grammar of llguidance, tried out; or the reason why it cannot be had, in words of ours.

llguidance's own sentences may quote the schema: only keywords of JSON Schema are taken from them. Its work is bounded by counts, not by
time: a schema's compilation and each mask end after so many steps of it, here a fifth of a second at most. Light: it is imported with the
first schema, which takes a tenth of a second.
"""

import json
import random
import re
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from workers.grammars.bounds import bounded
from workers.grammars.choices import one_of
from workers.grammars.grammar import Grammar
from workers.grammars.readable import readable
from workers.grammars.recursion import ends
from workers.grammars.schemas import lost_refs, misshapen

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLParserLimits, LLTokenizer

MAX_SOURCE_CHARS: Final = 65_536
MAX_CHOICES: Final = 5_000
MAX_DEPTH: Final = 64
INITIAL_FUEL: Final = 200_000  # llguidance's 1,000,000 let one regular expression take 1.5 s
TRIAL_STEPS: Final = 64

TOO_LARGE: Final = "it is too large"
TOO_COMPLEX: Final = "it takes too much work, or never ends: make it simpler"
UNMEETABLE: Final = "nothing can meet it"
MALFORMED: Final = "it cannot be read"
# By what llguidance says, in this order.
_REASONS: Final = (
    ("Unsatisfiable", UNMEETABLE),
    ("oneOf constraints", "the choices of a `oneOf` overlap: write `anyOf`"),
    ("look-around", "its pattern looks around (`(?=`, `(?!`, `(?<`), which is not done here"),
    ("backreference", "its pattern refers back, which is not done here"),
    ("Invalid type", "its `type` has what does not belong there"),
    ("oo many", TOO_COMPLEX),
    ("max is", TOO_COMPLEX),
    ("limit", TOO_COMPLEX),
    ("fuel", TOO_COMPLEX),
    ("NoExtension", UNMEETABLE),
)
_KEYWORDS: Final = frozenset(
    [
        "not",
        "if",
        "then",
        "else",
        "dependentRequired",
        "dependentSchemas",
        "dependencies",
        "uniqueItems",
        "contains",
        "minContains",
        "maxContains",
        "propertyNames",
        "unevaluatedProperties",
        "unevaluatedItems",
        "minProperties",
        "maxProperties",
        "additionalItems",
        "contentEncoding",
        "contentMediaType",
        "contentSchema",
        "$dynamicRef",
        "$dynamicAnchor",
        "$recursiveRef",
        "$recursiveAnchor",
        "$anchor",
        "$id",
    ]
)
_ANCHORS: Final = re.compile(r"\A\^?(.*?)(?<!\\)\$?\Z", re.DOTALL)


class Unusable(ValueError):
    """``reason``: a sentence's part, of a closed list and without content."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def fault(grammar: Grammar) -> str | None:
    """The failure code of one that no answer can be held to, or None. It is tried out over bytes; takes milliseconds, 0.5 s at most."""
    try:
        _try_out(matcher_over(byte_tokenizer(), compiled(grammar)))
    except Unusable as unusable:
        return code_of(grammar, unusable.reason)
    return None


def code_of(grammar: Grammar, reason: str) -> str:
    return f"invalid_grammar:{grammar.field}:{reason}"


def compiled(grammar: Grammar, *, strictly: bool = True) -> str:
    """As llguidance reads it. ``strictly``: with bounds and without white space, to generate by; else all that the schema itself allows.

    Raises Unusable."""
    try:
        return _compiled(grammar, strictly)
    except ValueError as error:  # llguidance's own may quote what it was given
        raise error if isinstance(error, Unusable) else Unusable(MALFORMED) from None


def _compiled(grammar: Grammar, strictly: bool) -> str:
    from llguidance import LLMatcher, grammar_from

    match grammar.kind:
        case "json":
            schema = _schema(grammar.source)
            options: Any = {"whitespace_flexible": not strictly, "coerce_one_of": False, "lenient": False}
            if strictly:
                text = LLMatcher.grammar_from_json_schema(bounded(schema), overrides=options)
                if not LLMatcher.validate_grammar(text, None, limits=_limits()):
                    return text  # else bounds of parts that hold together contradict each other
            return LLMatcher.grammar_from_json_schema(schema, overrides=options)
        case "choice":
            choices = list(grammar.source)
            if not 0 < len(choices) <= MAX_CHOICES or sum(map(len, choices)) > MAX_SOURCE_CHARS:
                raise Unusable(TOO_LARGE if choices else UNMEETABLE)
            return LLMatcher.grammar_from_regex(one_of(choices))
        case kind:
            text = str(grammar.source)
            if len(text) > MAX_SOURCE_CHARS:
                raise Unusable(TOO_LARGE)
            if kind == "regex":  # the whole answer is held to it
                found = _ANCHORS.match(text)
                return LLMatcher.grammar_from_regex(found[1] if found else text)
            return grammar_from("grammar", text)


def matcher_over(tokenizer: "LLTokenizer", text: str) -> "LLMatcher":
    """Raises Unusable."""
    from llguidance import LLMatcher

    made = LLMatcher(tokenizer, text, log_level=0, limits=_limits())
    if made.is_error():
        raise Unusable(_reason(made.get_error()))
    return made


def meets(grammar: Grammar, text: str) -> bool:
    """Whether an answer is what was asked for, white space and long numbers and all. Raises Unusable."""
    try:
        matcher = matcher_over(byte_tokenizer(), compiled(grammar, strictly=False))
    except Unusable:  # its bounds alone keep the choices of a `oneOf` apart: then they are what it is held to
        matcher = matcher_over(byte_tokenizer(), compiled(grammar))
    return matcher.consume_tokens(list(text.encode())) and matcher.is_accepting()


def _schema(source: object) -> dict[str, Any]:
    """Raises Unusable."""
    try:
        read = json.loads(source) if isinstance(source, str) else source
        if not isinstance(read, Mapping):
            raise Unusable("it must be an object")
        if _depth(read) > MAX_DEPTH or len(json.dumps(read)) > MAX_SOURCE_CHARS:
            raise Unusable(TOO_LARGE)
        json.dumps(read, allow_nan=False, ensure_ascii=False).encode()
    except RecursionError:
        raise Unusable(TOO_LARGE) from None
    except (json.JSONDecodeError, UnicodeEncodeError):  # the latter of half a character
        raise Unusable(MALFORMED) from None
    except ValueError as error:
        raise error if isinstance(error, Unusable) else Unusable("it holds a number that is none") from None
    if (keyword := misshapen(read)) is not None:
        raise Unusable(f"its `{keyword}` has what does not belong there")
    if lost_refs(read):
        raise Unusable("a `$ref` names nothing in it")
    if not ends(read):
        raise Unusable(UNMEETABLE)
    return readable(read)


def _depth(schema: object) -> int:
    depth, level = 0, [schema]
    while level:
        depth += 1
        level = [inner for one in level for inner in (one.values() if isinstance(one, Mapping) else one if isinstance(one, list) else ())]
    return depth


def _try_out(matcher: "LLMatcher") -> None:
    """Says something that the grammar allows, as far as some bytes: what explodes does so early. Raises Unusable."""
    chance = random.Random(0)  # noqa: S311 - the same walk each time
    for _ in range(TRIAL_STEPS):
        bits = matcher.compute_bitmask()
        allowed = [token for token in range(END + 1) if bits[token // 8] >> token % 8 & 1]
        token = chance.choice(allowed) if allowed else END
        if not matcher.is_error() and token != END:
            matcher.consume_token(token)
        if matcher.is_error():
            raise Unusable(_reason(matcher.get_error()))
        if token == END or matcher.is_stopped():
            return


def _reason(said: str) -> str:
    if "Unimplemented keys" in said:
        named = sorted(_KEYWORDS.intersection(re.findall(r"\$?\w+", said)))
        return f"it uses {', '.join(f'`{name}`' for name in named) or 'a keyword'}, which is not done here"
    return next((reason for sign, reason in _REASONS if sign in said), MALFORMED)


END: Final = 256


class _Bytes:
    """A vocabulary of the bytes and an end."""

    eos_token_id = END
    bos_token_id = None
    special_token_ids = (END,)
    tokens = (*(bytes([byte]) for byte in range(END)), b"<end>")

    def __call__(self, text: bytes) -> list[int]:
        return list(text)


@cache
def byte_tokenizer() -> "LLTokenizer":
    from llguidance import LLTokenizer, TokenizerWrapper

    return LLTokenizer(TokenizerWrapper(_Bytes()), n_vocab=END + 1, slices=[])


@cache
def _limits() -> "LLParserLimits":
    from llguidance import LLParserLimits

    return LLParserLimits(initial_lexer_fuel=INITIAL_FUEL, verbose_errors=False)
