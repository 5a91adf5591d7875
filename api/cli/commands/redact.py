"""`textmill redact`: masks in the place of what is sensitive in a file, on this machine alone."""

from pathlib import Path
from typing import Annotated

import typer

from api.cli.terminal.exits import CommandError, ExitCode
from api.cli.terminal.options import Delimiter, Format, Json, Quiet


def redact(
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSONL, CSV, Parquet or plain lines, or - for JSONL rows on stdin.")],
    out: Annotated[
        str, typer.Option("--output", "-o", metavar="OUT", help="Where it goes, in the format of the input: a file, or - for stdout.")
    ],
    text_column: Annotated[
        list[str] | None,
        typer.Option("--text-column", metavar="NAME", help="Mask this column alone; may be repeated. Otherwise all that hold text."),
    ] = None,
    kinds: Annotated[
        str | None,
        typer.Option("--kinds", metavar="KINDS", help="Of email, phone, iban, card, ip, national_id, key and url only these, with commas."),
    ] = None,
    form: Format = None,
    delimiter: Delimiter = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Mask e-mail addresses, phone numbers, IBANs, cards, IP addresses, national ids, keys and URLs with secrets in FILE.

    Nothing is sent anywhere. A best effort: names, street addresses and values without a form of their own are not recognised.
    """
    import secrets

    from pyarrow.lib import ArrowException

    from api.cli.terminal.terminal import answer_json, say
    from api.cli.work.outputs import check_place, opened
    from api.cli.work.redacting import Redaction, chunks_of, format_for
    from api.cli.work.running import find_source
    from api.formats.names import format_of, is_tabbed
    from workers.redaction.masking import Masker
    from workers.redaction.span import KINDS

    asked = KINDS if kinds is None else tuple(kind for kind in KINDS if kind in [word.strip() for word in kinds.split(",")])
    if kinds is not None and len(asked) != len(set(kinds.split(","))):
        raise CommandError(f"--kinds takes some of these, with commas: {', '.join(KINDS)}.")
    source = find_source(file, form, text_column=None, id_column=None, delimiter=delimiter)
    kind = source.fields.get("format") or format_of(source.name) or "jsonl"
    if out == "-" and as_json:
        raise CommandError("--json tells about it on stdout, where -o - already sends the rows; take one of them.")
    if kind == "parquet" and source.path is None:
        raise CommandError("Parquet cannot be read from a pipe: give a file.")
    format_for(out, kind)
    target = None if out == "-" else Path(out)
    if target is not None:
        check_place(target, source.stat())
    redaction = Redaction(Masker(secrets.token_bytes(32), asked), text_column or ())
    with source.open() as (stream, _), opened(target) as masked:
        try:
            if kind == "parquet":
                redaction.parquet(stream, masked)
            elif kind == "csv":
                separator = source.fields.get("delimiter") or ("\t" if is_tabbed(source.name) else None)
                redaction.csv(chunks_of(stream), masked, separator)
            elif kind == "jsonl":
                redaction.jsonl(chunks_of(stream), masked)
            else:
                redaction.lines(chunks_of(stream), masked)
        except ArrowException:  # its message may quote the file
            raise CommandError("The Parquet file is damaged, or written in a way that is not read here.") from None
        masked.flush()
    counts = {name: redaction.counts[name] for name in KINDS if redaction.counts[name]}
    if as_json:
        answer_json({"rows": redaction.rows, "left_out": redaction.left_out, "masked": counts})
    elif not quiet:
        told = ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "nothing was found"
        say(f"{redaction.rows:,} row{'' if redaction.rows == 1 else 's'}; masked: {told}.")
    if redaction.left_out and not as_json:
        say(f"{redaction.left_out:,} could not be read as JSON and {'is' if redaction.left_out == 1 else 'are'} not in the output.")
    return ExitCode.ROWS_FAILED if redaction.left_out else ExitCode.OK
