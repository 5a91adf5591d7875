"""What a shell may put where the cursor is: names that are on the server, and words that an option takes. A server that is away, or a key
that may not ask, offers nothing: nobody asked for an error at the Tab key."""

import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

from typer._completion_classes import BashComplete  # no public door leads there; the version is pinned

from api.cli.terminal.terminal import UNSHOWABLE

if TYPE_CHECKING:
    from api.client import Client

OFFERED: Final = 20  # of the newest jobs or files
HEAD_PREFIX: Final = "head:"  # before the name of a head where a model is named
RULES_PREFIX: Final = "rules:"
CUTS_WORDS: Final = frozenset(":=")  # bash begins a new word at each of them
_FOR_THE_SHELL: Final = re.compile(r"[^\w@%+=:,./-]")  # what it would read as more than a letter
Offer = str | tuple[str, str]  # a value, or one with what a shell shows beside it


def _asked(ask: Callable[["Client", str], Iterable[Offer]]) -> Callable[[str], list[Offer]]:
    def offers(incomplete: str) -> list[Offer]:
        from api.cli.terminal.connection import connect
        from db.errors import TextmillError

        try:
            with connect() as client:
                return list(ask(client, incomplete))
        except (TextmillError, OSError):
            return []

    return offers


@_asked
def heads(client: "Client", _begun: str) -> Iterable[Offer]:
    return [head.name for head in client.heads() if head.name is not None]


@_asked
def models(client: "Client", _begun: str) -> Iterable[Offer]:
    """What --model takes: models, and heads as head:NAME."""
    known = [str(model["id"]) for model in client.pages("/v1/models")]
    return dict.fromkeys([*known, *(f"{HEAD_PREFIX}{head.name}" for head in client.heads() if head.name is not None)])


@_asked
def label_sets(client: "Client", _begun: str) -> Iterable[Offer]:
    return [str(one["name"]) for one in client.pages("/v1/label_sets")]


@_asked
def prompts(client: "Client", _begun: str) -> Iterable[Offer]:
    return [str(one["name"]) for one in client.pages("/v1/prompts")]


@_asked
def jobs(client: "Client", begun: str) -> Iterable[Offer]:
    newest = islice(client.batches(), OFFERED)
    return _by_id({batch.id: f"{batch.status}, {batch.counts.total:,} rows" for batch in newest}, begun)


@_asked
def files(client: "Client", begun: str) -> Iterable[Offer]:
    return _by_id({file.id: file.purpose for file in islice(client.files(), OFFERED)}, begun)


def _by_id(about: Mapping[str, str], begun: str) -> list[Offer]:
    """`last` and first digits, with what each is; whole ids for who begins to write one."""
    from api.cli.terminal.references import LAST, first_digits

    if not about:
        return []
    short = [(LAST, "the newest"), *((digits, about[id]) for id, digits in first_digits(about).items())]
    return list(short if any(value.startswith(begun) for value, _ in short) else about.items())


def tasks() -> list[Offer]:
    from api.endpoints import TASKS

    return [task.name for task in TASKS.values()]


def topics() -> list[Offer]:
    from api.docs.pages import TOPICS

    return list(TOPICS)


def words(*known: str) -> Callable[[], list[str]]:
    """A fixed choice."""
    return lambda: list(known)


class Bash(BashComplete):
    """bash cuts what is typed at every : and =, hands the pieces over as words, and puts what it gets in the place of the last piece."""

    def get_completion_args(self) -> tuple[list[str], str]:
        typed = os.environ["COMP_WORDS"].split("\n")[: int(os.environ["COMP_CWORD"]) + 1]
        return whole_words(typed)

    def complete(self) -> str:
        arguments, begun = self.get_completion_args()
        replaced_from = begun.rfind(":") + 1
        offered = [item.value for item in self.get_completions(arguments, begun)]
        return "\n".join(_FOR_THE_SHELL.sub(r"\\\g<0>", value[replaced_from:]) for value in offered if not UNSHOWABLE.search(value))


def whole_words(pieces: Sequence[str]) -> tuple[list[str], str]:
    """The arguments that are whole, and the one that is begun, without the quotes that a shell would take off. ``pieces``: as bash cuts
    them, with the program's name."""
    joined: list[str] = []
    for piece in pieces[1:]:
        if joined and (piece in CUTS_WORDS or joined[-1][-1:] in CUTS_WORDS):
            joined[-1] += piece
        else:
            joined.append(piece)
    *arguments, begun = [_unquoted(word) for word in joined] or [""]
    return arguments, begun


def _unquoted(word: str) -> str:
    try:
        return "".join(shlex.split(word))
    except ValueError:  # a quote that is still open
        return word.lstrip("'\"")
