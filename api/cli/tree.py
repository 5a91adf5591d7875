"""The tree of commands."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from api.cli.commands import (
    calibrate,
    docs,
    files,
    generate,
    jobs,
    keys,
    label,
    label_sets,
    profile,
    prompts,
    redact,
    rules,
    run,
    stack,
    templates,
    train,
    workers,
)
from api.cli.terminal.completion import Bash
from api.cli.terminal.exits import EPILOG
from api.cli.terminal.option_words import meant
from api.cli.terminal.terminal import shown


def build() -> typer.Typer:
    app = typer.Typer(
        no_args_is_help=True,
        help="Label and generate text in bulk, on your own machines, sealed at rest.",
        epilog=EPILOG,
        pretty_exceptions_enable=False,  # a pretty traceback prints local variables, and those hold texts
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(root)
    app.command("label", epilog=EPILOG)(label.label)
    app.command("generate", epilog=EPILOG)(generate.generate)
    app.command("embed", epilog=EPILOG)(generate.embed)
    app.command("run", epilog=EPILOG)(run.run)
    app.command("redact", epilog=EPILOG)(redact.redact)
    app.add_typer(jobs.app, name="jobs")
    app.command("results", epilog=EPILOG)(jobs.results)
    app.command("profile", epilog=EPILOG)(profile.profile)
    app.add_typer(files.app, name="files")
    app.add_typer(files.models_app, name="models")
    app.command("calibrate", epilog=EPILOG)(calibrate.calibrate)
    app.add_typer(train.app, name="train")
    app.add_typer(train.heads_app, name="heads")
    app.add_typer(label_sets.app, name="label-sets")
    app.add_typer(prompts.app, name="prompts")
    app.add_typer(rules.app, name="rules")
    app.add_typer(templates.app, name="templates")
    app.add_typer(keys.app, name="keys")
    app.add_typer(keys.audit_app, name="audit")
    stack.register(app)
    app.add_typer(workers.app, name="workers")
    app.command("docs", epilog=EPILOG)(docs.docs)
    return app


def command() -> Any:
    """The tree as it is run; typer has no public type for it."""
    from typer._click.shell_completion import add_completion_class

    made = typer.main.get_command(build())
    add_completion_class(Bash, "bash")  # typer's own is put there when the tree is made
    return made


def what_is_wrong(error: typer.TyperException) -> str:
    """Of a command that cannot be read, in sentences, with whose help to read; nothing where its help was printed."""
    option, context = getattr(error, "option_name", None), getattr(error, "ctx", None)
    if isinstance(option, str) and context is not None and type(error).__name__ == "NoSuchOption":
        found = meant(option, [name for parameter in context.command.params for name in parameter.opts])
        told = f"There is no option {shown(option)} here." + (f" Did you mean {' or '.join(found)}?" if found else "")
    else:
        told = error.format_message().strip().replace("Input should be", "it must be")
    if not told:
        return ""
    return (
        f"{told if told.endswith(('.', '?')) else f'{told}.'} See `{context.command_path if context is not None else 'textmill'} --help`."
    )


def options_of(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words of the command in ``arguments``, and the options that it has."""
    found: Any = command()
    words: list[str] = []
    for word in arguments:
        following = getattr(found, "commands", {}).get(word)
        if following is None:
            break
        found = following
        words.append(word)
    return words, [name for parameter in found.params for name in parameter.opts]


def print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"textmill {version('textmill')}")
        raise typer.Exit


def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=print_version)] = False,
) -> None:
    """Label and generate text in bulk, on your own machines, sealed at rest."""
