"""Where a job's time went, and how fast it was: in full for `textmill profile`, shorter at the end of `jobs show` and `label`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from api.performance import Performance, Texts


SPEEDS = frozenset({"speed", "micro-batches", "device", "bare model"})  # of the figures, what only an operator asks for
STAGE_COLUMNS = ("STAGE", "SECONDS", "SHARE", "µs A ROW")


def figures(used: "Performance") -> list[tuple[str, str]]:
    """What is known, field by field."""
    found: list[tuple[str, str]] = []
    if used.rows_per_second is not None and used.run_seconds is not None:
        speed = f"{used.rows_per_second:,.1f} rows/s"
        if used.tokens_per_second:
            speed += f", {used.tokens_per_second:,.0f} tokens/s{' in and out' if used.texts else ''}"
        found.append(("speed", f"{speed} over {used.run_seconds:,.1f} s"))
    if used.fill is not None and used.padding_waste is not None:
        found.append(("micro-batches", f"fill {used.fill:.1%}, padding waste {used.padding_waste:.1%}"))
    if used.duplicate_rows:
        found.append(("duplicates", f"{used.duplicate_rows:,} rows answered without the model"))
    if used.device_busy is not None and used.lanes is not None:
        found.append(("device", f"{used.device_busy:.1%} busy with this job while a worker held its shards ({used.lanes:.3g} lanes)"))
    if used.bare_share is not None:
        found.append(("bare model", f"{used.bare_share:.1%} of the speed that it has by itself"))
    return found + ([] if used.texts is None else _texts(used.texts))


def _texts(texts: "Texts") -> list[tuple[str, str]]:
    """A job's answers, as far as they are known."""
    speed = "" if texts.tokens_per_second is None else f", {texts.tokens_per_second:,.0f} tokens/s"
    found = [("answers", f"{texts.mean_tokens:,.1f} tokens each{speed}")]
    if texts.cached_share is not None:
        found.append(("prefix hits", f"{texts.cached_share:.1%} of the prompts' tokens, which an earlier one begins with"))
    for name, within in (("first token", texts.first_token), ("next token", texts.next_token)):
        if within is not None:
            found.append((name, f"within {_brief(within[0])} in half of the rows, {_brief(within[1])} in 95 of 100"))
    return found


def _brief(seconds: float) -> str:
    """340 ms, 1.2 s, 4:05."""
    from api.cli.terminal.progress import clock

    return f"{seconds * 1000:,.0f} ms" if seconds < 0.9995 else f"{seconds:.1f} s" if seconds < 59.95 else clock(seconds)


def stage_rows(used: "Performance") -> list[tuple[str, str, str, str]]:
    shares = used.stage_shares
    return [
        (stage, f"{seconds:.3f}", f"{shares[stage]:.1%}", f"{seconds / used.rows * 1e6:,.1f}" if used.rows else "")
        for stage, seconds in used.stages.items()
    ]


def explanation(used: "Performance") -> Sequence[str]:
    return (
        "Stages are the time of all shards together, side by side as they ran: queue is waiting for rows of others, model the lanes' time.",
    )


def say_performance(used: "Performance") -> None:
    """At the end of a command that ran a job, on stderr."""
    from api.cli.terminal.terminal import say, table

    say(*(f"{name}: {value}" for name, value in figures(used)))
    if used.stages:
        table(STAGE_COLUMNS, stage_rows(used), stderr=True)
