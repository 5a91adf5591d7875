"""`textmill rules`: conditions on columns with answers, that jobs name as their model."""

from typing import Annotated

import typer

from api.cli.commands.definitions import File, app_of, cells_of, read_source
from api.cli.terminal.exits import CommandError, ExitCode
from api.cli.terminal.options import Json

app = app_of("/v1/rules", "set of rules", "--model rules:", "Store, show, test and remove rules, which label or write without a model.")

Cells = Annotated[list[str] | None, typer.Option("--cell", metavar="COLUMN=VALUE", help="A cell of the row; may be repeated.")]
Text = Annotated[str, typer.Option("--text", metavar="TEXT", help="The row's text.")]


@app.command("test")
def hold(file: File, cell: Cells = None, text: Text = "", as_json: Json = False) -> int:
    """Read the rules of FILE and run their tests, here and without a server; with --cell or --text show what they say of such a row."""
    from api.cli.terminal.terminal import answer_json, say, shown
    from workers.content.cells import Row
    from workers.content.filling import Unanswered
    from workers.content.rules import Rules
    from workers.content.yaml_tree import Fault

    try:
        rules = Rules(read_source(file))
    except Fault as fault:
        raise CommandError(str(fault), ExitCode.ROWS_FAILED) from None
    told: dict[str, object] = {"rules": rules.rule_count, "tests": rules.test_count, "columns": sorted(rules.columns)}
    if cell or text:
        try:
            told |= rules.decide(Row(cells_of(cell), text))._asdict()
        except Unanswered as none:
            told["error"] = none.code
    if as_json:
        answer_json(told)
        return ExitCode.OK
    say(f"{rules.rule_count:,} rules; {rules.test_count:,} tests passed.")
    if "text" in told:
        print(f"{shown(str(told['rule']))}: {shown(str(told['text']))}")
    elif "error" in told:
        say(f"No answer: {told['error']}.")
    return ExitCode.OK
