"""`textmill docs`: the reference, without a browser and without a server."""

import sys
from typing import Annotated

import typer

from api.cli.terminal import completion
from api.cli.terminal.exits import CommandError, ExitCode
from api.cli.terminal.options import Json

MOST_COLUMNS = 110  # longer lines are hard to follow


def docs(
    topic: Annotated[
        str | None, typer.Argument(metavar="TOPIC", help="A page; without, the pages are listed.", autocompletion=completion.topics)
    ] = None,
    as_json: Json = False,
) -> int:
    """Print a page of the reference, or list the pages."""
    from api.cli.terminal.terminal import answer_json, console, table
    from api.docs.pages import all_pages, find

    if topic is None:
        if as_json:
            answer_json([{"topic": page.topic, "title": page.title, "summary": page.summary} for page in all_pages()])
        else:
            table(("TOPIC", "ABOUT"), ((page.topic, page.summary) for page in all_pages()))
        return ExitCode.OK
    page = find(topic)
    if page is None:
        raise CommandError("There is no page of this name; `textmill docs` lists them.")
    if as_json:
        answer_json({"topic": page.topic, "title": page.title, "text": page.text})
    elif sys.stdout.isatty():
        from rich.markdown import Markdown

        screen = console()
        screen.print(Markdown(page.on_terminal, hyperlinks=False), width=min(screen.width, MOST_COLUMNS))
    else:
        sys.stdout.write(page.text)
    return ExitCode.OK
