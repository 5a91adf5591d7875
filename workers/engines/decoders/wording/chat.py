"""How chat messages are put to a decoder: pure, and before any tokenising.

A script is a list of pieces: plain text, or the name of a control token. Only this file names control tokens; a message that spells one
is tokenised as ordinary text, so nobody can end a turn from inside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from workers.engines.contract.generation import Message

Style = Literal["plain", "gemma"]
PLAIN_STOP = ("\nQuestion:",)


@dataclass(frozen=True, slots=True)
class Control:
    token: str


Piece = str | Control
BOS, TURN, END_OF_TURN = Control("<bos>"), Control("<start_of_turn>"), Control("<end_of_turn>")


def script(messages: Sequence[Message], style: Style) -> list[Piece]:
    return _gemma(messages) if style == "gemma" else _plain(messages)


def stop_strings(style: Style) -> tuple[str, ...]:
    """What ends an answer besides the end token. A pre-trained model never ends its turn: it would go on and ask itself questions."""
    return PLAIN_STOP if style == "plain" else ()


def _gemma(messages: Sequence[Message]) -> list[Piece]:
    """Gemma's own template. It has no system role: instructions open the first user turn."""
    instructions = "\n\n".join(message.content for message in messages if _instructs(message))
    pieces: list[Piece] = [BOS]
    for message in messages:
        if _instructs(message):
            continue
        role = "model" if message.role == "assistant" else "user"
        content = message.content
        if role == "user" and instructions:
            content, instructions = f"{instructions}\n\n{content}", ""
        pieces += [TURN, f"{role}\n{content.strip()}", END_OF_TURN, "\n"]
    if instructions:
        pieces += [TURN, f"user\n{instructions.strip()}", END_OF_TURN, "\n"]
    return [*pieces, TURN, "model\n"]


def _plain(messages: Sequence[Message]) -> list[Piece]:
    """For a pre-trained model. Of five forms tried by hand on Gemma 3 270M, questions and answers was the one it answers most often."""
    paragraphs = []
    for message in messages:
        content = message.content.strip()
        if _instructs(message):
            paragraphs.append(f"{content}\n\n")
        else:
            paragraphs.append(f"{'Answer' if message.role == 'assistant' else 'Question'}: {content}\n")
    return [BOS, "".join([*paragraphs, "Answer:"])]


def _instructs(message: Message) -> bool:
    return message.role in ("system", "developer")
