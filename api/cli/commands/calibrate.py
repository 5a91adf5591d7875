"""`textmill calibrate`: which engine, number format, lanes and token budget this machine runs an encoder with, and why."""

from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.terminal.exits import ExitCode
from api.cli.terminal.options import Json
from workers.engines.contract.plan import DtypeChoice, EngineChoice

if TYPE_CHECKING:
    from workers.engines.calibration.findings import Finding, Trial


def calibrate(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="An encoder; otherwise the first that classifies.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show every way that was tried, and why it was not chosen.")] = False,
    anew: Annotated[bool, typer.Option("--anew", help="Measure again, although this machine has a finding.")] = False,
    engine: Annotated[EngineChoice, typer.Option("--engine", help="Only this one.")] = "auto",
    dtype: Annotated[DtypeChoice, typer.Option("--dtype", help="Only this one; exact is float32.")] = "auto",
    as_json: Json = False,
) -> int:
    """Find the fastest way to run an encoder on this CPU that agrees with fp32. Workers do so by themselves, beside their work.

    At least 99.5 % of the labels must be fp32's and no probability 0.02 or more off, on texts made for this (another engine's fp32 is held
    to the first 64 of them). The finding is kept in the home folder, by machine, model and versions. Measure while nothing else runs.
    """
    from workers.host.device import pin

    pin("cpu")  # before torch is imported, as a worker does
    from api.cli.terminal.terminal import answer_json
    from db.settings import load
    from workers.engines.loading import find_out
    from workers.models import registry
    from workers.settings import WorkerSettings

    card = registry.get(model) if model else registry.default_model("classify")
    settings = load(WorkerSettings).model_copy(update={"device": "cpu", "engine": engine, "dtype": dtype})
    finding = find_out(card, settings, anew=anew)
    if as_json:
        answer_json(finding)
    else:
        _tell(finding, explain=explain)
    return ExitCode.OK


def _tell(finding: "Finding", *, explain: bool) -> None:
    from api.cli.terminal.terminal import answer, say, table

    chosen = finding.chosen
    answer(
        f"{finding.model}: {chosen.engine} {chosen.format}, {chosen.lanes} lane(s) of {chosen.threads} thread(s), "
        f"{chosen.budget_tokens:,} tokens a batch: {chosen.tokens_per_second:,.0f} tokens/s"
    )
    if finding.disturbed:
        say("Other work ran on this machine meanwhile: workers use this, and measure again when they are idle.")
    if not explain:
        return
    table(
        ["engine", "format", "tokens/s", "labels as fp32", "most off", "lanes", "budget", "verdict"], [_row(one) for one in finding.trials]
    )
    packing = "runs without padding in torch" if finding.packed else "is of a family that only transformers runs: padded, in fp32"
    say(f"The model {packing}. {finding.texts} texts, {finding.seconds:.0f} s; weights {finding.weights}.")


def _row(trial: "Trial") -> list[str]:
    return [
        trial.engine,
        trial.format,
        "" if trial.tokens_per_second is None else f"{trial.tokens_per_second:,.0f}",
        "" if trial.agreement is None else f"{trial.agreement:.2%}",
        "" if trial.difference is None else f"{trial.difference:.4f}",
        "" if trial.lanes is None else f"{trial.lanes}×{trial.threads}",
        "" if trial.budget_tokens is None else f"{trial.budget_tokens:,}",
        f"{trial.verdict}: {trial.reason}",
    ]
