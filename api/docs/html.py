"""A page as HTML: no script, nothing from elsewhere, one style sheet inside, for light and for dark.

Markdown's own HTML is off: whatever stands in a page is shown as text.
"""

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

from api.docs.pages import Page, all_pages

STYLE: Final = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
# The hash is of the style sheet as it stands in the page: a browser takes this one and no other.
HEADERS: Final = {
    "content-security-policy": "default-src 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",  # of the version that runs, not of the one before
}
_PAGE_LINK: Final = re.compile(r"([\w-]+)\.md(#[\w-]*)?")


@cache
def page_html(page: Page) -> str:
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(page.text)
    _finish(tokens)
    return _document(page.title, page.topic, markdown.renderer.render(tokens, markdown.options, {}))


@cache
def index_html() -> str:
    items = "\n".join(
        f'<li><a href="/docs/{page.topic}">{escape(page.title)}</a><p>{escape(page.summary)}</p></li>' for page in all_pages()
    )
    return _document("textmill", "", f"<h1>textmill</h1>\n<p>The reference of this server's version.</p>\n<ul class=index>\n{items}\n</ul>")


def slug(heading: str) -> str:
    """The name by which a link finds a heading; GitHub makes the same one of the headings that we write."""
    return re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-")


def _finish(tokens: Sequence[Token]) -> None:
    """Headings get their names, links to pages the addresses that these have here."""
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        if token.type == "heading_open" and following is not None:
            token.attrSet("id", slug(following.content))
        for child in token.children or ():
            if child.type == "link_open" and (found := _PAGE_LINK.fullmatch(str(child.attrGet("href")))):
                child.attrSet("href", f"/docs/{found.group(1)}{found.group(2) or ''}")


def _document(title: str, topic: str, body: str) -> str:
    here = ' aria-current="page"'
    links = "\n".join(f'<a href="/docs/{page.topic}"{here if page.topic == topic else ""}>{escape(page.topic)}</a>' for page in all_pages())
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)} · textmill</title>
<style>{STYLE}</style>
</head>
<body>
<nav aria-label="Topics"><a class="home" href="/docs">textmill</a>
{links}
</nav>
<main>
{body}
</main>
</body>
</html>
"""
