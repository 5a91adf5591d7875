"""Guards of the calibration of decoders."""

from typing import Final

from tests.faults.mutants.mutant import Mutant

_CHOOSING: Final = "workers/engines/calibration/choosing_decoders.py"
_TEST: Final = "tests/workers/engines/calibration/test_choosing_decoders.py::"

MUTANTS: Final = (
    Mutant(
        "distributions-near-fp32",
        "a decoder's format whose distributions are far from fp32's is not chosen",
        _CHOOSING,
        (("if not divergence < MOST_DIVERGENCE:", "if False:"),),
        (f"{_TEST}test_what_is_far_from_fp32_is_out_however_fast",),
    ),
    Mutant(
        "tokens-as-fp32",
        "a decoder's format whose likeliest tokens are others is not chosen",
        _CHOOSING,
        (("if agreement < LEAST_AGREEMENT:", "if False:"),),
        (f"{_TEST}test_other_likeliest_tokens_are_out_however_near_the_distributions",),
    ),
    Mutant(
        "one-format-at-a-time",
        "a calibration holds one format of a decoder at a time",
        _CHOOSING,
        (("            self._engine = None\n            gc.collect()", "            gc.collect()"),),
        (f"{_TEST}test_of_all_formats_one_is_in_memory_at_a_time",),
    ),
    Mutant(
        "rows-of-a-trial-go",
        "the keys and values of a trial's rows go with it",
        "workers/engines/calibration/speaking.py",
        (("            self._slots.cancel(row)", "            pass"),),
        (f"{_TEST}test_the_rows_of_a_trial_leave_nothing_in_the_slots_also_where_it_is_broken_off",),
    ),
    Mutant(
        "calibration-steps-aside",
        "somebody who comes while a decoder is calibrated waits for one step",
        "workers/engines/calibration/trials.py",
        (("lambda: activity.somebody_waits or time.perf_counter() >= end", "lambda: time.perf_counter() >= end"),),
        (f"{_TEST}test_somebody_who_comes_in_a_slice_makes_it_a_step_long",),
    ),
)
