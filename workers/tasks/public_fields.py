"""Fields of the public API that clients send along, and that nothing is done about here: taken where their value asks for nothing.

The names are a closed list, so that a refusal may name its field: no other name of a row's ever leaves it. Light.
"""

import json
from collections.abc import Collection, Mapping
from typing import Any, Final

ANY: Final = object()  # whatever the value, the answer is the same
# By field, the values that ask for nothing; null does so always. Of the OpenAI API, and of the servers that extend it.
FIELDS: Final[Mapping[str, tuple[object, ...]]] = {
    # OpenAI
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "instructions": (),
    "logit_bias": ({},),
    "logprobs": (False,),
    "max_output_tokens": (),
    "metadata": (ANY,),
    "modalities": (["text"],),
    "n": (1,),
    "parallel_tool_calls": (ANY,),  # of tools, which there are none of
    "prediction": (),
    "previous_response_id": (),
    "prompt_cache_key": (ANY,),
    "prompt_cache_options": (ANY,),
    "prompt_cache_retention": (ANY,),
    "reasoning": ({},),
    "reasoning_effort": ("none",),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "safety_identifier": (ANY,),
    "service_tier": (ANY,),
    "store": (False,),
    "stream": (False,),
    "stream_options": (ANY,),  # of a stream, which there is none of
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "user": (ANY,),
    "verbosity": ("medium",),
    "web_search_options": (),
    # vLLM, SGLang, TGI
    "add_generation_prompt": (True,),
    "add_special_tokens": (),
    "allowed_token_ids": ([],),
    "bad_words": ([],),
    "chat_template": (),
    "chat_template_kwargs": ({},),
    "continue_final_message": (False,),
    "documents": ([],),
    "guided_choice": ([],),
    "guided_grammar": (),
    "guided_json": (),
    "guided_regex": (),
    "ignore_eos": (False,),
    "include_stop_str_in_output": (False,),
    "length_penalty": (1,),
    "logits_processors": ([],),
    "min_p": (0,),
    "min_tokens": (0,),
    "no_repeat_ngram_size": (0,),
    "priority": (0,),
    "prompt_logprobs": (),
    "repetition_penalty": (1,),
    "request_id": (ANY,),
    "return_token_ids": (False,),
    "return_tokens_as_token_ids": (False,),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "stop_token_ids": ([],),
    "structured_outputs": ({},),
    "top_k": (0, -1),
    "truncate_prompt_tokens": (),
    "typical_p": (1,),
    "use_beam_search": (False,),
    # Ollama, LiteLLM, Anthropic, embedding servers
    "drop_params": (ANY,),
    "extra_body": ({},),
    "extra_headers": ({},),
    "format": (),
    "input_type": (),
    "keep_alive": (ANY,),
    "options": ({},),
    "reasoning_content": (),
    "stop_sequences": ([],),
    "system": ("",),
    "task_type": (),
    "think": (False,),
    "thinking": (),
    "timeout": (ANY,),
}
# Of a message, as clients give back what they were answered.
MESSAGE_FIELDS: Final[Mapping[str, tuple[object, ...]]] = {
    "annotations": ([],),
    "audio": (),
    "cache_control": (ANY,),
    "function_call": (),
    "id": (ANY,),
    "images": ([],),
    "parsed": (),
    "provider_specific_fields": ({},),
    "reasoning": ("",),
    "reasoning_content": ("",),
    "refusal": ("",),
    "thinking_blocks": ([],),
    "tool_call_id": (),
    "tool_calls": ([],),
    "weight": (ANY,),
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
        *("messages", "prompt", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop", "n", "user"),
    }
)


def settled(fields: Mapping[str, Any], own: Collection[str]) -> dict[str, Any] | str:
    """A body as its task reads it, without what asks for nothing; or the failure code of what asks for something that is not done.

    ``own``: the names that the task reads. Whole floats become whole numbers, as some languages write no others; the parts of a message's
    text are joined by line feeds. Whatever else does not fit is left for the strict reading.
    """
    kept = _kept(fields, own, FIELDS, "")
    if isinstance(kept, str):
        return kept
    for name, value in kept.items():
        if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
            kept[name] = int(value)
    messages = kept.get("messages")
    if isinstance(messages, list) and "messages" in own:
        turns: list[object] = []
        kept["messages"] = turns
        for place, message in enumerate(messages):
            turn = _message(message, f"messages[{place}]") if isinstance(message, dict) else [message]
            if isinstance(turn, str):
                return turn
            turns += [turn] if isinstance(turn, dict) else turn
    return kept


def _kept(fields: Mapping[str, Any], own: Collection[str], known: Mapping[str, tuple[object, ...]], path: str) -> dict[str, Any] | str:
    kept = {}
    for name, value in fields.items():
        if name in own or not (name in known or (value is None and name in OWN_NAMES)):
            kept[name] = value
        elif value is not None and not any(_is_same(value, nothing) for nothing in known[name]):
            taken = " or ".join(json.dumps(nothing) for nothing in known[name])
            return f"unsupported_field:{path}{name}:{taken}"
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
        if isinstance(part, dict) and part.get("type") not in TEXT_PARTS:
            return f'unsupported_field:{where}.type:"text"'
        text = part.get("text") if isinstance(part, dict) else part
        if not isinstance(text, str):
            return f"invalid_field:{where}.text:text|{_KINDS[type(text)]}"
        texts.append(text)
    kept["content"] = "\n".join(texts)
    return kept


def _is_same(value: object, nothing: object) -> bool:
    return nothing is ANY or (value == nothing and isinstance(value, bool) == isinstance(nothing, bool))
