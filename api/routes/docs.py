"""``/docs``: the reference of this version. Without a key, and not audited: it says the same everywhere, and nothing of this server."""

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from api.docs.html import HEADERS, index_html, page_html
from api.docs.pages import find
from db.errors import NotFound

router = APIRouter(prefix="/docs")


@router.get("")
def index() -> HTMLResponse:
    """The list of pages, as HTML."""
    return HTMLResponse(index_html(), headers=HEADERS)


@router.get("/{topic}")
def show(topic: str) -> HTMLResponse:
    """One page, as HTML."""
    page = find(topic)
    if page is None:
        raise NotFound("There is no page of this name; /docs lists them.", code="page_not_found")
    return HTMLResponse(page_html(page), headers=HEADERS)
