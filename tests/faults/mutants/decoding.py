"""Guards of continuous batching: the lanes of a decoder, and its slots."""

from typing import Final

from tests.faults.mutants.mutant import Mutant

_LANES: Final = "workers/inference/continuous.py"
_LANES_TEST: Final = "tests/unit/workers/inference/test_continuous.py::"

MUTANTS: Final = (
    Mutant(
        "row-to-blame",
        "a row that breaks a step fails alone",
        _LANES,
        (
            (
                "        if len(turns_of) == 1:\n            [(_length, _tag, index, call)] = turns_of\n",
                "        for _length, _tag, index, call in turns_of:\n",
            ),
            ("BatchShare())\n            return\n        middle", "BatchShare())\n        return\n        middle"),
        ),
        (f"{_LANES_TEST}test_a_row_to_blame_fails_alone_and_its_neighbours_are_answered",),
    ),
    Mutant(
        "fewer-tokens-after-oom",
        "fewer tokens run together after a step was out of memory",
        _LANES,
        (("                self._budget.shrink()\n", "                pass\n"),),
        (f"{_LANES_TEST}test_out_of_memory_lets_fewer_tokens_run_together_and_they_grow_back",),
    ),
    Mutant(
        "within-the-room",
        "no more tokens run together than there is room for",
        _LANES,
        (("if first[0] > tokens and (taken or lane.running):", "if False:"),),
        (f"{_LANES_TEST}test_tokens_that_run_together_stay_within_the_room_and_the_budget",),
    ),
    Mutant(
        "gone-from-its-place",
        "a row that nobody waits for gives up its place",
        _LANES,
        (("                lane.slots.cancel(row)\n                lane.end(row)\n", "                pass\n"),),
        (f"{_LANES_TEST}test_a_stopped_call_leaves_its_places_and_what_waits_of_it_never_runs",),
    ),
    Mutant(
        "decoding-bulk-not-starved",
        "a flood of interactive rows leaves bulk rows their turns",
        _LANES,
        (("self._interactive_in_a_row + 1 if work is Work.INTERACTIVE and bulk_waits else 0", "0"),),
        (f"{_LANES_TEST}test_an_interactive_row_takes_the_next_free_place_and_bulk_is_not_starved",),
    ),
    Mutant(
        "tenants-share-the-slots",
        "tenants share the slots by tokens",
        _LANES,
        (("lambda call: call.ticket.tenant, ", "lambda call: None, "), ("lambda call: call.ticket.job)", "lambda call: None)")),
        (f"{_LANES_TEST}test_tenants_take_turns_by_tokens",),
    ),
)
