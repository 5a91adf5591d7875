"""The way of every command that runs a model over rows: upload, start the job, watch it, write the results."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from api.cli.terminal.connection import connect
from api.cli.terminal.exits import CommandError, ExitCode
from api.cli.terminal.progress import show_progress
from api.cli.terminal.terminal import answer, answer_json, say, shown
from api.cli.work.delivery import Delivery
from api.cli.work.dry_run import dry_run
from api.cli.work.figures import say_performance
from api.cli.work.following import come_back, follow, let_go
from api.cli.work.outcomes import task_of
from api.cli.work.outputs import Shown, Target, parse_target
from api.cli.work.peeking import batch_endpoint
from api.cli.work.sources import Source
from api.cli.work.terms import say_promise
from api.formats.names import FORMATS, format_of, is_archive, is_spreadsheet
from api.performance import performance
from db.errors import TextmillError
from workers.engines.contract.long_texts import OnLong, Pool
from workers.redaction.span import KINDS
from workers.tasks.task import Task
from workers.tasks.writers import writer_name

if TYPE_CHECKING:
    from api.client import Client
    from api.wire import Batch, FileInfo


@dataclass(frozen=True, slots=True)
class Work:
    """What to do with the rows, and how to tell about it. ``content``: fields of the batch that are the job's and no row's."""

    title: str
    endpoint: str
    defaults: Mapping[str, object]
    out: str | None
    window: str = "24h"
    priority: int | str = 0
    metadata: Mapping[str, str] = field(default_factory=dict)
    content: Mapping[str, object] = field(default_factory=dict)
    detach: bool = False
    as_json: bool = False
    quiet: bool = False
    verbose: bool = False
    shown_as: Shown = field(default_factory=Shown)
    terms: Mapping[str, object] = field(default_factory=dict)
    dry_run: bool = False

    @property
    def plan(self) -> dict[str, Any]:
        """What the job is asked for with."""
        asked = {"defaults": self.defaults, "window": self.window, "priority": self.priority, "metadata": self.metadata}
        content = {**self.content, **self.terms}
        return asked | ({"content": content} if any(content.values()) else {})


def priority_of(number: int, *, interactive: bool) -> int | str:
    """What the job is created with. Raises CommandError where both were asked for."""
    if interactive and number:
        raise CommandError("--interactive is above every --priority; take one of them.")
    return "interactive" if interactive else number


def long_texts(on_long: str | None, pool: str | None, stride: int | None) -> dict[str, object]:
    """What the three options put into a job's defaults. Raises CommandError where they do not fit together."""
    if on_long is not None and on_long not in get_args(OnLong):
        raise CommandError("--on-long is truncate, refuse or chunk.")
    if pool is not None and pool not in get_args(Pool):
        raise CommandError("--pool is mean or max.")
    if on_long != "chunk" and (pool is not None or stride is not None):
        raise CommandError("--pool and --stride go with --on-long chunk.")
    given = {"on_long": on_long, "pool": pool, "stride": stride}
    return {name: value for name, value in given.items() if value is not None}


def find_source(
    file: str,
    form: str | None,
    *,
    text_column: str | None,
    id_column: str | None,
    label_column: str | None = None,
    delimiter: str | None = None,
) -> Source:
    """Raises CommandError where the input is missing, a folder, or of no known format."""
    fields = {"text_column": text_column, "id_column": id_column, "label_column": label_column}
    fields["delimiter"] = "\t" if delimiter in {"tab", "\\t"} else delimiter
    sent = {name: value for name, value in fields.items() if value is not None}
    if form is not None and form not in FORMATS:
        raise CommandError(f"--format is one of {', '.join(FORMATS)}.")
    if file == "-":
        if sys.stdin.isatty():
            raise CommandError("- reads rows from a pipe, but stdin is the terminal. Give a file, or pipe rows in.")
        return Source(None, fields={"format": form or "jsonl", **sent})
    path = Path(file)
    if path.is_dir():
        raise CommandError("The input is a folder; give one file: JSONL, CSV, Parquet or plain lines.")
    if not path.exists():
        raise CommandError(f"There is no file {shown(file)}.")
    if path.is_file() and path.stat().st_size == 0:
        raise CommandError("The input is empty.")
    if is_spreadsheet(path.name):
        raise CommandError("Spreadsheets are not read: save the sheet as “CSV UTF-8” in its own program, and give that file.")
    if is_archive(path.name):
        raise CommandError("Of what is compressed only gzip and zstd are read: unpack the file, and give what is in it.")
    if form is None and format_of(path.name) is None:
        raise CommandError("The input's name tells no format: give --format jsonl, csv, parquet or txt (plain lines, a text each).")
    return Source(path, name=path.name, fields=sent if form is None else {"format": form, **sent})  # otherwise the name tells the server


def redact_of(kinds: str | None) -> dict[str, object] | None:
    """What --redact asks for. Raises CommandError."""
    if kinds is None:
        return None
    named = [kind.strip() for kind in kinds.split(",")]
    if named == ["all"]:
        return {"kinds": list(KINDS)}
    if not set(named) <= set(KINDS):
        raise CommandError(f"--redact is all, or some of {', '.join(KINDS)}, separated by commas.")
    return {"kinds": named}


def parse_metadata(pairs: list[str]) -> dict[str, str]:
    metadata = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise CommandError("--metadata takes key=value.")
        metadata[key] = value
    return metadata


def send(client: "Client", source: Source, purpose: str, *, quiet: bool) -> "FileInfo":
    from api.client import Upload

    with source.open() as (stream, size_bytes), show_progress("Uploading", unit="bytes", quiet=quiet) as progress:
        upload = Upload(stream, source.name, purpose, source.fields, size_bytes)
        file = client.upload(upload, lambda sent: progress.update(sent, size_bytes))
    if (doubled := file.textmill.get("doubled_ids", 0)) and not quiet:
        say(f"Note: {doubled:,} row{'' if doubled == 1 else 's'} with an id that an earlier row has; each has its own result.")
    return file


def start(client: "Client", source: Source, work: Work, of_batch: str | None = None, look: Callable[[str], None] | None = None) -> "Batch":
    """Sends the rows and makes the job: what can be refused without the rows is refused before any is sent. ``of_batch``: the endpoint that
    the lines of a batch file name. ``look``: at the file, before there is a job."""
    endpoint, plan = of_batch or work.endpoint, work.plan
    client.check_batch(endpoint, **plan)
    file = send(client, source, "rows" if of_batch is None else "batch", quiet=work.quiet)
    if look is not None:
        look(file.id)
    batch = client.create_batch(file.id, endpoint, **plan)
    if not work.quiet:
        say_promise(batch)
    return batch


def run(source: Source, work: Work) -> ExitCode:
    """Upload → job → results. The exit code says how it ended; raises what the client and the output raise. The lines of a batch file go
    as they are, to the endpoint that they name."""
    task = task_of(work.endpoint)
    target = None if work.dry_run else find_target(work, task, source)
    of_batch = batch_endpoint(source.path, task)
    if of_batch is not None and source.fields.keys() - {"format"}:
        raise CommandError("The lines of this file are those of a batch file and say themselves what to read: leave the columns out.")
    if work.dry_run:
        asked = replace(source, fields={"purpose": "rows" if of_batch is None else "batch", **source.fields})
        return dry_run(asked, of_batch or work.endpoint, work.plan, prompt=work.content.get("prompt"), as_json=work.as_json)
    with connect() as client:
        if target is None:
            return tell_detached(start(client, source, work, of_batch), work)
        shown_as = replace(work.shown_as, rule=writer_name(str(work.defaults.get("model"))) is not None)
        rows = Delivery(client, target, task, shown_as, grows=task.streams)
        batch = start(client, source, work, of_batch, rows.look)
        try:
            with rows:
                with show_progress(work.title, quiet=work.quiet) as progress:
                    batch = follow(client, batch, progress, rows.take if rows.come_one_by_one else None)
                rows.take(batch)
            code = rows.report(batch, as_json=work.as_json, quiet=work.quiet)
            if work.verbose and not work.as_json:
                say_performance(performance(batch))
            return code
        except KeyboardInterrupt:
            rows.say_left()
            return let_go(client, batch, work.out)
        except TextmillError:
            rows.say_left()
            say("The job is on the server and keeps what is done. To come back:", *come_back(batch, work.out))
            raise


def find_target(work: Work, task: Task[Any], source: Source) -> Target | None:
    if work.detach:
        return None
    if work.out is None:
        raise CommandError("Say where the results go: -o OUT.jsonl, -o OUT.csv, -o OUT.parquet, or -o - for stdout; or --detach.")
    if work.out == "-" and work.as_json:
        raise CommandError("--json tells about the job on stdout, where -o - already sends the results; take one of them.")
    return parse_target(work.out, task, source.stat())


def tell_detached(batch: "Batch", work: Work) -> ExitCode:
    if work.as_json:
        answer_json(batch)
    else:
        answer(batch.id)
        if not work.quiet:
            say("The job runs on the server. To come back:", *come_back(batch, work.out))
    return ExitCode.OK
