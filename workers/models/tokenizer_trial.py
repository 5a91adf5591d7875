"""Whether a tokenizer that somebody else made comes to an end: a pattern in its file may take minutes over a few thousand characters.

It is tried on texts that such patterns are slow with, in a process of its own: that can be ended, a thread inside a pattern cannot. Not a
proof: what passes here is held to a limit at each call, too (:mod:`workers.engines.folders.time_limit`).
"""

import itertools
import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

CHARS: Final = 20_000  # of a text of one character; one of two has half
TEXT_SECONDS: Final = 0.25  # of CPU. Patterns of models in use take 5 ms for the worst of these texts, one that is quadratic 0.9 s
TRIAL_SECONDS: Final = 20  # of CPU, for all of it
WAIT_SECONDS: Final = 300.0  # on a machine that is busy with other things
MEMORY_BYTES: Final = 4 << 30
SLOW: Final = 3  # exit code
USUAL_WORD: Final = 1_000  # characters; BERT's is 100
EVERYDAY: Final = "a A0.-_'é中\n\t"
PAIRED: Final = "a 0."
FROM_FILE: Final = 12  # characters that its patterns name
PAIRED_FROM_FILE: Final = 4
_VOCABULARY: Final = frozenset({"vocab", "merges"})
_ESCAPED: Final = re.compile(r"\\[pPxuk]\{[^}]*\}|\\.|\(\?[a-z<!=:]+|\{[\d,]*\}")


def why_slow(folder: Path) -> str | None:
    """Why the tokenizer of this folder is not used; None where it may be, or where it is for its loader to say what is wrong."""
    path = folder / "tokenizer.json"
    try:
        about = path.stat()
    except OSError:
        return None
    if _is_slow(path, about.st_mtime_ns, about.st_size):
        return "tokenizer.json holds a pattern that takes too long over some texts (repetitions within repetitions?): replace it."
    return None


@lru_cache(maxsize=256)
def _is_slow(path: Path, _changed_ns: int, _size: int) -> bool:
    """Found out in a process that imports nothing of ours."""
    try:
        if not needs_trial(json.loads(path.read_bytes())):
            return False
    except (OSError, ValueError, RecursionError):
        return False
    try:
        done = subprocess.run(  # noqa: S603 -- this file, of a path that an operator named
            [sys.executable, "-P", __file__, str(path)],
            env=os.environ | {"TOKENIZERS_PARALLELISM": "false"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=WAIT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return True
    return done.returncode == SLOW or done.returncode < 0  # ended by the limits on CPU or memory


def needs_trial(value: Any) -> bool:
    """Whether the file holds something whose time is not known: patterns, replacements, words without an end. Most tokenizers have none."""
    if isinstance(value, list):
        return any(map(needs_trial, value))
    if not isinstance(value, dict):
        return False
    longest = value.get("max_input_chars_per_word", 0)
    if "Regex" in value or value.get("type") == "Replace" or not isinstance(longest, int) or longest > USUAL_WORD:
        return True
    return any(needs_trial(inner) for name, inner in value.items() if name not in _VOCABULARY)


def trial_texts(file: object) -> Iterator[str]:
    """Long runs of one character and of two, each with an end that fits no pattern, and behind it what the patterns name: one whose last
    letter is nowhere is given up at a glance. ``file``: what tokenizer.json holds."""
    literals = "".join(dict.fromkeys("".join(_literals(file))))
    named = [letter for letter in literals if letter not in EVERYDAY and letter.isprintable()]
    letters = [*EVERYDAY, *named[:FROM_FILE]]
    for letter in letters:
        yield letter * CHARS + "\x01\n" + literals
    for pair in itertools.permutations([*PAIRED, *named[:PAIRED_FROM_FILE]], 2):
        yield "".join(pair) * (CHARS // 4) + "\x01\n" + literals


def _literals(value: Any) -> Iterator[str]:
    """What the patterns say beside their operators."""
    if isinstance(value, dict):
        if isinstance(pattern := value.get("Regex"), str):
            yield re.sub(r"[\[\](){}|*+?^$.\\]", "", _ESCAPED.sub("", pattern))
        for name, inner in value.items():
            if name not in _VOCABULARY:
                yield from _literals(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _literals(inner)


def main(path: str) -> int:
    resource.setrlimit(resource.RLIMIT_CPU, (TRIAL_SECONDS, TRIAL_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(path)
        texts = list(trial_texts(json.loads(Path(path).read_bytes())))
    except Exception:  # its loader says so
        return 0
    tokenizer.no_padding()
    tokenizer.no_truncation()
    for text in texts:
        signal.setitimer(signal.ITIMER_PROF, TEXT_SECONDS)  # ends this process
        try:
            tokenizer.encode(text)
        except Exception:  # noqa: S112 -- a text that it cannot read; that is not what is asked
            continue
        except BaseException:  # a panic: the pattern was given up after some millions of tries
            return SLOW
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
