"""What was set in the environment and nobody reads, named before a command begins: a part that is started so has it in its log."""

import os
from collections.abc import Sequence
from typing import Final

from api.spelling import rest_of

# What most people set: for these the settings of all parts need not be loaded.
_KNOWN: Final = frozenset({"TEXTMILL_HOME", "TEXTMILL_API_URL", "TEXTMILL_API_KEY"})


def name_misspelt(arguments: Sequence[str]) -> None:
    """On stderr. `textmill doctor` has a line of its own for each, and with --json there is nobody to read."""
    suspects = {name for name in os.environ if rest_of(name) is not None}
    if suspects <= _KNOWN or "--json" in arguments or arguments[:1] == ["doctor"]:
        return
    from api.cli.terminal.terminal import say, shown
    from api.environment import misspelt

    say(*(f"textmill: {shown(each)}" for each in misspelt(os.environ)))
