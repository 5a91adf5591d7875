"""What a server says of form fields, JSON fields and addresses, in the words of the command that was typed; and what an option that is not
there may have meant. One place for all commands: their own options say what a field is called at a terminal."""

import re
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from typing import Final

# A field whose option has another name. Of several the first one that the command has.
_OTHER_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "text_column": ("--text-column", "--prompt-column"),
    "completion_window": ("--window",),
    "templates": ("--template",),
    "messages": ("--system",),
    "expires_at": ("--expires-days",),
    "form": ("--format",),
    "input_file_id": ("FILE",),
    "training_file": ("FILE",),
    "endpoint": ("TASK",),
    "name": ("NAME",),
}
# "the form field text_column", "`text_column`", "defaults.labels[1]"; a bare word only where it cannot be one of plain English.
_FIELD: Final = re.compile(
    r"(?P<in>\bin )?(?P<said>\b(?:the )?(?:form |JSON |HTTP )?field )?(?P<tick>`?)"
    r"(?P<name>(?:defaults\.)?[a-z]+(?:_[a-z]+)*)(?P<rest>(?:\[\d+\])*)(?P=tick)(?![\w.]*\w)",
    re.IGNORECASE,
)
# After "field" no name, but the sentence going on.
_NO_NAME: Final = frozenset({"is", "are", "has", "have", "may", "must", "of", "that", "in"})
_LISTED: Final = re.compile(r"(; known are [^.]*)")  # names of fields to choose from stay what they are
_PHRASES: Final = (
    (re.compile(r"`?GET /v1/models`?"), "`textmill models list`"),
    (re.compile(r"(There is no (?:such head|head of this name))\.$"), r"\1; `textmill heads list` shows what there is."),
    (re.compile(r"(There is no label set of this name)\.$"), r"\1; `textmill label-sets list` shows what there is."),
    (re.compile(r"(There is no such key)\.$"), r"\1; `textmill keys list` shows what there is."),
    (re.compile(r"(The model cannot do this task)\.$"), r"\1; `textmill models list` tells what each can do."),
    (re.compile(r"The body of this request may have (\d+ KiB)\."), r"What the options hold may have \1 in all."),
    (re.compile(r"(`textmill docs \w+`) and /docs/\w+ (tell|list)\b"), r"\1 \2s"),
    (re.compile(r"(?<![\w`])/docs/(\w+)"), r"`textmill docs \1`"),
    (re.compile(r"\b([Tt]he|[Nn]o|[Aa]|[Tt]his) batch\b(?!['’]?s? (?:file|line))"), r"\1 job"),
)


def in_options(message: str, options: Collection[str], command: Sequence[str] = ()) -> str:
    """``options``: those of the command (`--text-column`), ``command`` its words, without the program's."""

    def said(found: re.Match[str]) -> str:
        name = found["name"].lower()
        field = name.removeprefix("defaults.")
        is_named = bool(found["tick"]) or "_" in field or name != field or (bool(found["said"]) and field not in _NO_NAME)
        option = _option(field, options, command) if is_named else None
        if option is None:
            return found[0]
        return f"{'with ' if found['in'] else ''}{option}"

    before, listed, after = _LISTED.split(message, 1) if _LISTED.search(message) else (message, "", "")
    told = f"{_FIELD.sub(said, before)}{listed}{_FIELD.sub(said, after)}"
    for phrase, instead in _PHRASES:
        told = phrase.sub(instead, told)
    return told


def _option(field: str, options: Collection[str], command: Sequence[str]) -> str | None:
    names = (f"--{field.replace('_', '-')}", *_OTHER_NAMES.get(field, ()))
    for name in names:
        if name in options or not name.startswith("--"):
            return name
    return f"--set {field}=…" if command[:1] == ["run"] and "--set" in options else None


def meant(given: str, options: Collection[str]) -> list[str]:
    """Options that ``given`` may stand for: those that it abbreviates, else those that hold it as a word, else those that look like it."""
    word = given.lstrip("-").partition("=")[0].replace("_", "-").lower()
    long = sorted(option for option in options if option.startswith("--"))
    if not word:
        return []
    abbreviated = [option for option in long if option[2:].startswith(word)]
    holding = [option for option in long if word in option[2:].split("-")]
    alike = [f"--{name}" for name in get_close_matches(word, [option[2:] for option in long], n=3, cutoff=0.7)]
    return abbreviated or holding or alike
