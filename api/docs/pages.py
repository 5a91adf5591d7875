"""The pages, in the order in which somebody would read them."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

TOPICS: Final = (
    "commands",
    "files",
    "rules",
    "checks",
    "redaction",
    "jobs",
    "tasks",
    "models",
    "labels",
    "keys",
    "http",
    "failures",
    "settings",
    "operations",
    "metrics",
    "limits",
)
FOLDER: Final = Path(__file__).parent / "pages"
_COMMENT: Final = re.compile(r"<!--.*?-->\n*", re.DOTALL)  # they mark what is generated, which is no reader's business
_LINK: Final = re.compile(r"\[([^\]]+)\]\(([\w-]+)\.md(?:#[\w-]*)?\)")


@dataclass(frozen=True, slots=True)
class Page:
    """``text`` is Markdown; its first line is the title, its first paragraph the summary. Links to other pages read ``topic.md#place``."""

    topic: str
    text: str

    @property
    def title(self) -> str:
        return self.text.partition("\n")[0].removeprefix("# ")

    @property
    def summary(self) -> str:
        """One line, without marks."""
        return " ".join(self.text.split("\n\n")[1].replace("`", "").split())

    @property
    def on_terminal(self) -> str:
        """The text with links that can be typed."""
        return _LINK.sub(r"\1 (`textmill docs \2`)", self.text)


@cache
def find(topic: str) -> Page | None:
    """The page, or None where there is no such topic."""
    if topic not in TOPICS:
        return None
    return Page(topic, _COMMENT.sub("", (FOLDER / f"{topic}.md").read_text(encoding="utf-8")))


def all_pages() -> list[Page]:
    return [page for topic in TOPICS if (page := find(topic)) is not None]
