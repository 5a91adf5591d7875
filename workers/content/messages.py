"""How a prompt is written down: a text, which is what a user says, or YAML with the messages of a chat.

YAML it is where the first line that is neither blank nor a comment begins with `system:`, `user:`, `assistant:` or `messages:`.

    system: You write product texts.
    user: |
      Write a sentence about {{ name }}.
"""

import re
from typing import Final

from workers.content.yaml_tree import Fault, Value, read_tree

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
        return _checked(_messages(read_tree(source)))
    except PromptFault:
        raise
    except Fault as fault:
        raise PromptFault(f"{fault} In a prompt's YAML put texts behind `|`, on lines of their own.") from None


def _messages(told: Value) -> list[Written]:
    fields = told.fields("a prompt")
    if "messages" not in fields:
        found = list(fields.items())
    elif len(fields) == 1:
        found = []
        for one in fields["messages"].items("`messages`"):
            message = one.fields("a message", ("role", "content"))
            if len(message) != 2:
                raise one.fault("a message has a role and a content")
            found.append((message["role"].text("a role"), message["content"]))
    else:
        raise PromptFault("The prompt has system, user and assistant, each a text; or a list of messages alone.")
    messages = []
    for place, (role, text) in enumerate(found, 1):
        if role not in ROLES:
            raise PromptFault(f"The role of message {place} must be one of {', '.join(ROLES)}.")
        messages.append((role, text.text("a message"), f"Message {place} ({role})"))
    return messages


def _checked(messages: list[Written]) -> list[Written]:
    if not 0 < len(messages) <= MAX_MESSAGES:
        raise PromptFault(f"A prompt has 1 to {MAX_MESSAGES} messages.")
    if not any(text.strip() for _, text, _ in messages):
        raise PromptFault("The prompt is empty.")
    if any("\0" in text for _, text, _ in messages):
        raise PromptFault("The prompt holds a NUL character.")
    return messages
