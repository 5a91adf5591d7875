"""What a batch says of its rows, and so does each step of a chain."""

from typing import Annotated

import msgspec
from msgspec import Meta

from workers.content.checks import MAX_TRIES
from workers.tasks.steps import When


class RowsPlan(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    endpoint: Annotated[
        str | None,
        Meta(description="What runs over its rows: one of the endpoints of a task. Of a chain, where it is said at all, the last step's."),
    ] = None
    defaults: Annotated[
        dict[str, object] | None,
        Meta(description="Fields of the task's body, laid under every row's: what a row leaves out, it takes here."),
    ] = None
    prompt: Annotated[
        str | None,
        Meta(
            description="A stored prompt, `NAME` or `NAME@2`: filled in with each row's columns (and, in a chain, with what `steps` before"
            " said), in the place of its text."
        ),
    ] = None
    checks: Annotated[
        list[dict[str, object]] | None,
        Meta(description="What every text that is written must pass, up to 20; each an object that names its kind as `check`."),
    ] = None
    tries: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_TRIES)] | None,
        Meta(description="How often a row is asked, with the next seed each time, until its answers pass all `checks`; 1 by default."),
    ] = None
    when: Annotated[
        When | list[When] | None,
        Meta(
            description="Which rows a step is for, by what steps before it said of them: objects of `step` (otherwise the one right"
            " before), `label` (one, or a list), `score` (`at_least`, `below`) and `flagged`, all of which must hold. The other rows are"
            " skipped."
        ),
    ] = None


class StepPlan(RowsPlan, forbid_unknown_fields=True, kw_only=True):
    """A step of a chain: what a batch says of its rows, and what it is called."""

    name: Annotated[str, Meta(description="A letter or `_`, then letters, digits or `_`; `input` is what an output as input is called.")]
