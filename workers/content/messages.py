"""How a prompt is written down: a text, which is what a user says, or YAML with the messages of a chat.

YAML it is where the first line that is neither blank nor a comment begins with `system:`, `user:`, `assistant:` or `messages:`.

    system: You write product texts.
    user: |
      Write a sentence about {{ name }}.
"""

import re
from typing import Any, Final

import yaml

from workers.content.yaml_tree import Fault

ROLES: Final = ("system", "user", "assistant")
MAX_MESSAGES: Final = 64
_BEGINS: Final = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\r?\n)*(?:system|user|assistant|messages)[ \t]*:")


class PromptFault(Fault):
    """A prompt that cannot be used. Its sentence is for whoever wrote it."""


Written = tuple[str, str, str]  # of a message its role, its text, and where that stands


def read_source(source: str) -> list[Written]:
    """Raises PromptFault."""
    if _BEGINS.match(source) is None:
        return _checked([("user", source, "The prompt")])
    try:
        told = yaml.safe_load(source)
    except yaml.MarkedYAMLError as error:
        at = f" at line {error.problem_mark.line + 1}" if error.problem_mark is not None else ""
        raise PromptFault(f"The prompt's YAML cannot be read{at}: put texts behind `|`, on lines of their own.") from None
    except (yaml.YAMLError, RecursionError, ValueError):
        raise PromptFault("The prompt's YAML cannot be read: put texts behind `|`, on lines of their own.") from None
    return _checked(_messages(told))


def _messages(told: Any) -> list[Written]:
    if not isinstance(told, dict) or not told or (("messages" in told) != (told.keys() == {"messages"})):
        raise PromptFault("The prompt has system, user and assistant, each a text; or a list of messages alone.")
    found = [(role, text) for role, text in told.items()]
    if "messages" in told:
        listed = told["messages"]
        if not isinstance(listed, list) or not all(isinstance(one, dict) and one.keys() == {"role", "content"} for one in listed):
            raise PromptFault("Each of the prompt's messages has a role and a content.")
        found = [(one["role"], one["content"]) for one in listed]
    messages = []
    for place, (role, text) in enumerate(found, 1):
        if role not in ROLES:
            raise PromptFault(f"The role of message {place} must be one of {', '.join(ROLES)}.")
        if not isinstance(text, str):
            raise PromptFault(f"Message {place} is no text: put it behind `|`, on lines of its own, or in quotes.")
        messages.append((role, text, f"Message {place} ({role})"))
    return messages


def _checked(messages: list[Written]) -> list[Written]:
    if not 0 < len(messages) <= MAX_MESSAGES:
        raise PromptFault(f"A prompt has 1 to {MAX_MESSAGES} messages.")
    if not any(text.strip() for _, text, _ in messages):
        raise PromptFault("The prompt is empty.")
    if any("\0" in text for _, text, _ in messages):
        raise PromptFault("The prompt holds a NUL character.")
    return messages
