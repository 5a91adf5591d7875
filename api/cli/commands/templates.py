"""`textmill templates`: texts with slots and choices, that jobs name as their model."""

from typing import Annotated

import typer

from api.cli.commands.definitions import File, app_of, cells_of, read_source
from api.cli.commands.rules import Cells, Text
from api.cli.terminal.exits import CommandError, ExitCode
from api.cli.terminal.options import Json

app = app_of("/v1/templates", "template", "--model template:", "Store, show, try out and remove templates, which write without a model.")


@app.command("render")
def render(
    file: File,
    cell: Cells = None,
    text: Text = "",
    seed: Annotated[int, typer.Option("--seed", help="Another seed, other words.")] = 0,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1000, help="As for so many rows with these cells.")] = 3,
    as_json: Json = False,
) -> int:
    """Show what the template of FILE writes for a row with these cells, here and without a server."""
    from api.cli.terminal.terminal import answer_json, say, shown
    from workers.content.cells import Row
    from workers.content.filling import Unanswered
    from workers.content.writer import TemplateWriter
    from workers.content.yaml_tree import Fault

    cells = cells_of(cell)
    try:
        template = TemplateWriter(read_source(file))
        texts = [template.write(Row(cells, text), seed=seed, number=number).text for number in range(count)]
    except Fault as fault:
        raise CommandError(str(fault)) from None
    except Unanswered as none:
        raise CommandError(f"The template writes nothing for such a row: {none.code}.", ExitCode.ROWS_FAILED) from None
    missing, extra = sorted(template.columns - cells.keys()), sorted(cells.keys() - template.columns)
    if as_json:
        answer_json({"texts": texts, "missing": missing, "extra": extra})
        return ExitCode.OK
    for one in texts:
        print(shown(one))
    for names, what in ((missing, "Columns without a cell here"), (extra, "Cells that the template does not look at")):
        if names:
            say(f"{what}: {', '.join(map(shown, names))}.")
    return ExitCode.OK
