"""Fields of the public API that clients send along, and that nothing is done about here: taken where their value asks for nothing.

The names are a closed list, so that a refusal may name its field: no other name of a row's ever leaves it. Light.
"""

import json
from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

ANY: Final = object()  # whatever the value, the answer is the same


class Field(NamedTuple):
    """``nothing``: the values that ask for nothing; null does so always. ``reason``: why anything else is not done, as a clause."""

    nothing: tuple[object, ...] = ()
    reason: str = ""


_ALIKE: Final = Field((ANY,))
_TEXT: Final = "since models here read and write text"
_TOOLS: Final = "since no tools are called in a batch"
_STATELESS: Final = "since each row stands for itself, and no earlier answer is looked up"
_FILES: Final = "since answers are read from the output file of the batch"
_OPEN: Final = "since no model here reasons apart from its answer"
_SEARCH: Final = "since nothing is fetched from other places"
_TEMPLATE: Final = "since the model's own template is used"
_TOKENS: Final = "since an answer is text of the model's own ordinary tokens"
_BEAMS: Final = "since answers are drawn token by token, without beams"
_PROMPT: Final = "since only tokens of the answer are told of"
_JUDGED: Final = "since no answer is judged as it is written: classify texts in a batch of their own"
# Of the OpenAI API, and of the servers that extend it.
FIELDS: Final[Mapping[str, Field]] = {
    # OpenAI
    "access_programs": Field(({},), "since there are no such programs here"),
    "audio": Field((), _TEXT),
    "background": Field((False,), "since every row of a batch is run in the background"),
    "background_options": Field(({},), "since a batch has a completion window of its own"),
    "best_of": Field((1,), "since every answer that is made is given"),
    "context_management": Field(([],), _STATELESS),
    "conversation": Field((), _STATELESS),
    "echo": Field((False,), "since the prompt stands in the input file"),
    "frequency_penalty": Field((0,)),
    "function_call": Field(("none", "auto"), _TOOLS),
    "functions": Field(([],), _TOOLS),
    "image": Field(({},), _TEXT),
    "include": Field(([],)),
    "instructions": Field(),
    "logit_bias": Field(({},)),
    "logprobs": Field((False,)),
    "max_output_tokens": Field(),
    "max_tool_calls": _ALIKE,  # of tools, which there are none of
    "metadata": _ALIKE,
    "modalities": Field((["text"],), _TEXT),
    "moderation": Field((), _JUDGED),
    "n": Field((1,)),
    "parallel_tool_calls": _ALIKE,
    "prediction": _ALIKE,  # it makes an answer quicker at most, and never another one
    "previous_response_id": Field((), _STATELESS),
    "prompt": Field((), "since a prompt's text goes to /v1/completions, and no prompts are stored"),
    "prompt_cache_key": _ALIKE,
    "prompt_cache_options": _ALIKE,
    "prompt_cache_retention": _ALIKE,
    "reasoning": Field(({}, {"effort": "none"}), _OPEN),
    "reasoning_effort": Field(("none",), _OPEN),
    "presence_penalty": Field((0,)),
    "response_format": Field(({"type": "text"},)),
    "safety_identifier": _ALIKE,
    "service_tier": _ALIKE,
    "store": Field((False,), _FILES),
    "stream": Field((False,), _FILES),
    "stream_options": _ALIKE,  # of a stream, which there is none of
    "suffix": Field(("",), "since models here go on with a text, and fill no gap in it"),
    "text": Field(({}, {"format": {"type": "text"}})),
    "tool_choice": Field(("none", "auto"), _TOOLS),
    "tools": Field(([],), _TOOLS),
    "top_logprobs": Field((0,)),
    "truncation": Field(("disabled",), "since a prompt that is too long fails its row"),
    "user": _ALIKE,
    "verbosity": Field(("medium",), "since no model here is told how much to say: say so in the prompt"),
    "web_search_options": Field((), _SEARCH),
    # vLLM, SGLang, TGI
    "add_generation_prompt": Field((True,), _TEMPLATE),
    "add_special_tokens": Field((), _TEMPLATE),
    "allowed_token_ids": Field(([],), "since `guided_choice` and `logit_bias` say which answers there may be"),
    "bad_words": Field(([],), "since `logit_bias` takes tokens out"),
    "chat_template": Field((), _TEMPLATE),
    "chat_template_kwargs": Field(({},), _TEMPLATE),
    "continue_final_message": Field((False,), _TEMPLATE),
    "documents": Field(([],), _TEMPLATE),
    "guided_choice": Field(([],)),
    "guided_decoding_backend": _ALIKE,
    "guided_grammar": Field(),
    "guided_json": Field(),
    "guided_regex": Field(),
    "guided_whitespace_pattern": Field((), "since answers are written without white space between their parts"),
    "ignore_eos": Field((False,), "since an answer ends where the model ends it"),
    "include_stop_str_in_output": Field((False,), "since what ends an answer is no part of it"),
    "length_penalty": Field((1,), _BEAMS),
    "logits_processors": Field(([],), "since no code comes with a row"),
    "min_p": Field((0,)),
    "min_tokens": Field((0,), "since an answer ends where the model ends it"),
    "no_repeat_ngram_size": Field((0,), "since penalties keep an answer from repeating itself"),
    "priority": Field((0,), "since a batch has its priority as a whole"),
    "prompt_logprobs": Field((), _PROMPT),
    "repetition_penalty": Field((1,)),
    "request_id": _ALIKE,
    "return_token_ids": Field((False,), _TOKENS),
    "return_tokens_as_token_ids": Field((False,), _TOKENS),
    "skip_special_tokens": Field((True,), _TOKENS),
    "spaces_between_special_tokens": Field((True,), _TOKENS),
    "stop_token_ids": Field(([],), "since texts end an answer: name them in `stop`"),
    "structured_outputs": Field(({},)),
    "top_k": Field((0, -1)),
    "truncate_prompt_tokens": Field((), "since a prompt that is too long fails its row"),
    "typical_p": Field((1,), "since `top_p`, `top_k` and `min_p` are what tokens are cut by"),
    "use_beam_search": Field((False,), _BEAMS),
    # Ollama, LiteLLM, Anthropic, embedding servers
    "drop_params": _ALIKE,
    "extra_body": Field(({},), "since that is an argument of a client: write its fields beside the others"),
    "extra_headers": Field(({},), "since that is an argument of a client"),
    "format": Field((), "since `response_format` says what an answer must look like"),
    "input_type": Field((), "since the model has one way to read a text"),
    "keep_alive": _ALIKE,
    "options": Field(({},), "since these are fields of their own here"),
    "reasoning_content": Field((), _OPEN),
    "stop_sequences": Field(([],), "since `stop` names them"),
    "system": Field(("",), "since the system's message stands among `messages`"),
    "task_type": Field((), "since the endpoint says what is done"),
    "think": Field((False,), _OPEN),
    "thinking": Field((), _OPEN),
    "timeout": _ALIKE,
}
# Of a message, as clients give back what they were answered.
MESSAGE_FIELDS: Final[Mapping[str, Field]] = {
    "annotations": Field(([],)),
    "audio": Field((), _TEXT),
    "cache_control": _ALIKE,
    "function_call": Field((), _TOOLS),
    "id": _ALIKE,
    "images": Field(([],), _TEXT),
    "parsed": Field(),
    "phase": _ALIKE,
    "prompt_cache_breakpoint": _ALIKE,
    "provider_specific_fields": Field(({},)),
    "reasoning": Field(("",), _OPEN),
    "reasoning_content": Field(("",), _OPEN),
    "refusal": Field(("",)),
    "status": _ALIKE,
    "thinking_blocks": Field(([],), _OPEN),
    "tool_call_id": Field((), _TOOLS),
    "tool_calls": Field(([],), _TOOLS),
    "type": Field(("message",), "since only messages are read"),
    "weight": _ALIKE,
}
_KINDS: Final = {type(None): "null", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}
TEXT_PARTS: Final = frozenset({"text", "input_text", "output_text"})
MESSAGE_NAMES: Final = frozenset({"role", "content", "name"})
# Of a plain row, what it asks of a generation; other tasks over the same file leave it aside.
PLAIN_NAMES: Final = ("messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop")
# What one task or another reads, and may be named where it stands in the body of another's.
OWN_NAMES: Final = frozenset(
    {
        *("model", "input", "label", "on_long", "pool", "stride", "labels", "label_set", "templates", "dimensions", "encoding_format"),
        *("descriptions", "rotations", "length_normalised", "calibrated"),
        *(
            "messages",
            "prompt",
            "max_tokens",
            "max_completion_tokens",
            "temperature",
            "top_p",
            "top_k",
            "min_p",
            "seed",
            "stop",
            "n",
            "user",
        ),
        *("presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias", "logprobs", "top_logprobs"),
        *("n", "best_of", "user"),
        *("response_format", "guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs"),
        *("instructions", "max_output_tokens", "include", "text", "metadata"),
    }
)


def settled(fields: Mapping[str, Any], own: Collection[str], turns: str | None) -> dict[str, Any] | str:
    """A body as its task reads it, without what asks for nothing; or the failure code of what asks for something that is not done.

    ``own``: the names that the task reads; ``turns``: of them that of a chat's messages. Whole floats become whole numbers, as some
    languages write no others; the parts of a message's text are joined by line feeds. Whatever else does not fit is left for the strict
    reading.
    """
    kept = _kept(fields, own, FIELDS, "")
    if isinstance(kept, str):
        return kept
    for name, value in kept.items():
        if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
            kept[name] = int(value)
    if turns is not None and turns in own and isinstance(messages := kept.get(turns), list):
        read: list[object] = []
        kept[turns] = read
        for place, message in enumerate(messages):
            turn = _message(message, f"{turns}[{place}]") if isinstance(message, dict) else [message]
            if isinstance(turn, str):
                return turn
            read += [turn] if isinstance(turn, dict) else turn
    return kept


def _kept(fields: Mapping[str, Any], own: Collection[str], known: Mapping[str, Field], path: str) -> dict[str, Any] | str:
    kept = {}
    for name, value in fields.items():
        if name in own or not (name in known or (value is None and name in OWN_NAMES)):
            kept[name] = value
        elif value is not None and not any(_is_same(value, nothing) for nothing in known[name].nothing):
            taken = " or ".join(json.dumps(nothing) for nothing in known[name].nothing)
            return f"unsupported_field:{path}{name}:{taken}|{known[name].reason}"
    return kept


def _message(message: dict[str, Any], path: str) -> dict[str, Any] | list[object] | str:
    """A turn with its text in one piece; nothing where it has no text; or a failure code."""
    kept = _kept(message, MESSAGE_NAMES, MESSAGE_FIELDS, f"{path}.")
    if isinstance(kept, str):
        return kept
    kept = {name: value for name, value in kept.items() if value is not None and not (name == "name" and value == "")}
    content = kept.get("content")
    if content is None:
        return []
    if not isinstance(content, list):
        return kept
    texts = []
    for place, part in enumerate(content):
        where = f"{path}.content[{place}]"
        if isinstance(part, dict) and not (isinstance(kind := part.get("type"), str) and kind in TEXT_PARTS):
            return f'unsupported_field:{where}.type:"text"|{_TEXT}'
        text = part.get("text") if isinstance(part, dict) else part
        if not isinstance(text, str):
            return f"invalid_field:{where}.text:text|{_KINDS[type(text)]}"
        texts.append(text)
    kept["content"] = "\n".join(texts)
    return kept


def _is_same(value: object, nothing: object) -> bool:
    return nothing is ANY or (value == nothing and isinstance(value, bool) == isinstance(nothing, bool))
