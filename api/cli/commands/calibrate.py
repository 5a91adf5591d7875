"""`textmill calibrate`: which engine, number format, lanes and batches this machine runs a model with, and why."""

from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.terminal.exits import ExitCode
from api.cli.terminal.options import Json
from workers.engines.contract.plan import DtypeChoice, EngineChoice

if TYPE_CHECKING:
    from workers.engines.calibration.findings import Finding, Trial


def calibrate(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="One that a worker runs itself; else the first that classifies.")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show every way that was tried, and why it was not chosen.")] = False,
    anew: Annotated[bool, typer.Option("--anew", help="Measure again, although this machine has a finding.")] = False,
    engine: Annotated[EngineChoice, typer.Option("--engine", help="Only this one.")] = "auto",
    dtype: Annotated[DtypeChoice, typer.Option("--dtype", help="Only this one; exact is float32.")] = "auto",
    as_json: Json = False,
) -> int:
    """Find the fastest way to run a model on this CPU that agrees with fp32. Workers do so by themselves, beside their work.

    Of an encoder at least 99.5 % of the labels must be fp32's and no probability 0.02 or more off (another engine's fp32 is held to 64
    texts); of a decoder 96 % of the likeliest next tokens, and their distributions less than 0.005 nats off in the mean. The texts are
    made for this. The finding is kept in the home folder, by machine, model and versions. Measure while nothing else runs.
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

    chosen, is_decoder = finding.chosen, finding.kind == "decoder"
    batches = f"{chosen.slots} slots each" if is_decoder else f"{chosen.budget_tokens:,} tokens a batch"
    answer(
        f"{finding.model}: {chosen.engine} {chosen.format}, {chosen.lanes} lane(s) of {chosen.threads} thread(s), {batches}: "
        f"{chosen.tokens_per_second:,.0f} tokens/s"
    )
    if finding.disturbed:
        say("Other work ran on this machine meanwhile: workers use this, and measure again when they are idle.")
    if not explain:
        return
    held = ["next tokens as fp32", "KL, nats"] if is_decoder else ["labels as fp32", "most off"]
    table(
        ["engine", "format", "tokens/s", *held, "lanes", "slots" if is_decoder else "budget", "verdict"],
        [_row(one) for one in finding.trials],
    )
    packing = "runs without padding in torch" if finding.packed else "is of a family that only transformers runs: padded, in fp32"
    texts = f"{finding.texts:,} tokens of text" if is_decoder else f"{finding.texts} texts"
    say(f"The model {packing}. {texts}, {finding.seconds:.0f} s; weights {finding.weights}.")


def _row(trial: "Trial") -> list[str]:
    return [
        trial.engine,
        trial.format,
        "" if trial.tokens_per_second is None else f"{trial.tokens_per_second:,.0f}",
        "" if trial.agreement is None else f"{trial.agreement:.2%}",
        "" if trial.difference is None else f"{trial.difference:.4f}",
        "" if trial.lanes is None else f"{trial.lanes}×{trial.threads}",
        next((f"{one:,}" for one in (trial.slots, trial.budget_tokens) if one is not None), ""),
        f"{trial.verdict}: {trial.reason}",
    ]
