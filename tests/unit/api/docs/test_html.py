"""Pages as HTML: escaped, without scripts, and nothing that a browser would fetch."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from api.docs.html import HEADERS, index_html, page_html, slug
from api.docs.pages import TOPICS, Page, all_pages

VOID = {"meta", "br", "hr", "img", "input", "link"}


class Read(HTMLParser):
    """Tags with their attributes; raises AssertionError where one is left open or closed twice."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("page", all_pages(), ids=lambda page: page.topic)
def test_a_page_runs_nothing_and_loads_nothing(page: Page) -> None:
    seen = Read(page_html(page)).seen
    assert {tag for tag, _ in seen} & {"script", "img", "iframe", "link", "object", "embed", "form", "input", "base"} == set()
    for tag, attributes in seen:
        assert not any(name.startswith("on") or name in {"style", "src"} for name in attributes), tag
        if (href := attributes.get("href")) is not None:
            assert re.fullmatch(r"/docs(/[a-z-]+)?(#[\w-]+)?|#[\w-]+", href), href


def test_links_between_pages_lead_to_headings_that_are_there() -> None:
    ids = {page.topic: {attributes["id"] for _, attributes in Read(page_html(page)).seen if "id" in attributes} for page in all_pages()}
    places = [found for page in all_pages() for found in re.findall(r'href="/docs/([a-z-]+)#([\w-]+)"', page_html(page))]
    assert places
    assert [place for place in places if place[1] not in ids[place[0]]] == []


def test_html_in_a_page_is_shown_as_text() -> None:
    html = page_html(
        Page("x", "# <b>X</b>\n\nA <script>alert(1)</script> & `<i>`\n\n<img src=x onerror=alert(1)>\n\n[a](javascript:alert(1))\n")
    )
    assert "<script" not in html
    assert "<img" not in html
    assert "<b>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; <code>&lt;i&gt;</code>" in html
    assert 'href="javascript' not in html
    assert "<title>&lt;b&gt;X&lt;/b&gt; · textmill</title>" in html


def test_a_browser_takes_the_style_sheet_that_is_in_the_page_and_no_other() -> None:
    policy = HEADERS["content-security-policy"]
    [style] = re.findall(r"<style>(.*?)</style>", index_html(), re.DOTALL)
    assert f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'" in policy
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "url(" not in style
    assert "@import" not in style


def test_the_index_leads_to_every_page_and_a_page_says_which_it_is() -> None:
    for topic in TOPICS:
        assert f'<a href="/docs/{topic}">' in index_html()
    here = [page.topic for page in all_pages() if f'<a href="/docs/{page.topic}" aria-current="page">' in page_html(page)]
    assert here == list(TOPICS)


def test_a_heading_s_name_is_what_github_makes_of_it() -> None:
    assert slug("Exit codes of a worker") == "exit-codes-of-a-worker"
    assert slug("`POST /v1/batches`") == "post-v1batches"
