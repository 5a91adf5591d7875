"""`textmill profile`: where the time of a job went."""

from api.cli.terminal.exits import ExitCode
from api.cli.terminal.options import Job, Json
from api.cli.terminal.references import find_job
from api.cli.work.figures import STAGE_COLUMNS, explanation, figures, stage_rows


def profile(job: Job, as_json: Json = False) -> int:
    """Show where the time of a job that has ended went, and how much of the bare model's speed it reached.

    Of one that writes texts, while it runs too, how long its answers are and how soon their tokens come.
    """
    from api.cli.terminal.connection import connect
    from api.cli.terminal.terminal import answer, answer_json, say, table
    from api.performance import performance

    with connect() as client:
        batch = client.batch(find_job(client, job))
    used = performance(batch)
    if as_json:
        answer_json(used)
        return ExitCode.OK
    table(("FIELD", "VALUE"), figures(used))
    if used.stages:
        answer("")
        table(STAGE_COLUMNS, stage_rows(used))
        say("", *explanation(used))
    else:
        say("The job has not ended yet." if not batch.ended else "No model ran for this job.")
    return ExitCode.OK
