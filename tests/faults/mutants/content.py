"""Guards of what a content job checks and masks."""

from typing import Final

from tests.faults.mutants.mutant import Mutant

_CHECKS: Final = "workers/content/checks.py"
_CHECKING: Final = "workers/content/checking.py"
_TRYING: Final = "workers/tasks/generate/trying.py"
_FIELDS: Final = "api/requests/content_fields.py"
_CHECKS_TEST: Final = "tests/unit/workers/content/test_checks.py::"
_CHECKING_TEST: Final = "tests/unit/workers/content/test_checking.py::"
_TRYING_TEST: Final = "tests/unit/workers/tasks/test_trying.py::"
_FIELDS_TEST: Final = "tests/unit/api/requests/test_content_fields.py::"

_MASKS: Final = "workers/content/masks.py"
_MASKS_TEST: Final = "tests/unit/workers/content/test_masks.py::"
_JOBS_TEST: Final = "tests/api/routes/test_content_jobs.py::"
_PROMPTS_TEST: Final = "tests/unit/workers/content/test_prompts.py::"

MUTANTS: Final = (
    Mutant(
        "masked-before-read",
        "what is sensitive is masked before a model sees it",
        "workers/shard/preparing.py",
        (("        steps.append(partial(mask_rows, redact))", "        pass"),),
        (f"{_JOBS_TEST}test_no_model_and_no_reader_sees_a_value_of_a_job_that_masks",),
    ),
    Mutant(
        "answers-masked",
        "what another job said of a row is masked too",
        "workers/shard/masking.py",
        (("    row.answers = tuple(masks.of_answer(answer) for answer in row.answers)\n", ""),),
        ("tests/unit/workers/shard/test_masking.py::test_bodies_and_what_other_jobs_said_are_masked_alike",),
    ),
    Mutant(
        "cells-masked",
        "cells that a prompt may be filled from are masked",
        "workers/shard/masking.py",
        (("    row.columns = None if row.columns is None else own.columns(row.columns)\n", ""),),
        ("tests/unit/workers/shard/test_masking.py::test_cells_are_masked_whatever_their_column_is_called",),
    ),
    Mutant(
        "one-mask-a-chain",
        "a value has one mask in all steps of a chain",
        "api/requests/chain_requests.py",
        (('if jobs and "redact" in spec:', "if False:"),),
        (f"{_JOBS_TEST}test_in_a_chain_a_value_has_one_mask_and_comes_back_from_the_last_step",),
    ),
    Mutant(
        "unmaskable-fails",
        "a row in which nothing can be masked is shown to no model",
        "workers/shard/masking.py",
        (("                row.fail(unmaskable.code)\n", "                pass\n"),),
        ("tests/unit/workers/shard/test_masking.py::test_a_row_that_cannot_be_masked_fails_and_no_neighbour",),
    ),
    Mutant(
        "prompt-gives-nothing-back",
        "a prompt cannot give itself back what it used up of its budget",
        "workers/content/prompts.py",
        (("self.steps < 0 or steps < 0", "self.steps < 0"), ("self.chars < 0 or chars < 0", "self.chars < 0")),
        (f"{_PROMPTS_TEST}test_no_prompt_gives_itself_back_what_it_used_up",),
    ),
    Mutant(
        "prompt-lists-flat",
        "a prompt makes no list of lists of lists whose items could never be looked through",
        "workers/content/prompts.py",
        (("        self._hold_flat(node)\n", ""),),
        (f"{_PROMPTS_TEST}test_what_could_reach_or_go_on_is_refused_before_it_runs",),
    ),
    Mutant(
        "prompt-fails-alone",
        "a fault of ours in one row's prompt fails that row, and no neighbour",
        "workers/shard/preparing.py",
        (('                    row.fail("engine_error")\n', "                    raise\n"),),
        ("tests/unit/workers/shard/test_preparing.py::test_a_fault_of_ours_in_one_row_fails_it_alone",),
    ),
    Mutant(
        "tokens-unmaskable",
        "tokens, in which nothing can be masked, are shown to no model",
        _MASKS,
        (("isinstance(one, int | list) for one in given", "isinstance(one, bytes) for one in given"),),
        (f"{_MASKS_TEST}test_what_cannot_be_masked_no_model_sees",),
    ),
    Mutant(
        "standing-in-the-row",
        "a mask that stands anywhere in a row is given to none of its values",
        _MASKS,
        (("self._masker.mask(value, self._standing)", "self._masker.mask(value, ())"),),
        (f"{_MASKS_TEST}test_a_mask_that_stands_in_another_column_is_given_to_no_value_of_the_row",),
    ),
    Mutant(
        "key-of-its-own",
        "masks of two jobs have nothing in common",
        _MASKS,
        (("secrets.token_hex(KEY_BYTES)", '"11" * KEY_BYTES'),),
        (f"{_MASKS_TEST}test_a_value_has_one_mask_in_all_of_a_job_and_others_in_another",),
    ),
    Mutant(
        "unmask-scope-of-files",
        "values are put back for a key with that scope alone",
        "api/routes/files.py",
        (('        await require(request, actor, "unmask")\n', "        pass\n"),),
        (f"{_JOBS_TEST}test_without_the_scope_nothing_is_put_back_and_the_try_is_on_record",),
    ),
    Mutant(
        "unmask-scope-of-tables",
        "values are put back in a table for a key with that scope alone",
        "api/routes/tables.py",
        (('        await require(request, actor, "unmask")\n', "        pass\n"),),
        (f"{_JOBS_TEST}test_without_the_scope_nothing_is_put_back_and_the_try_is_on_record",),
    ),
    Mutant(
        "unmasking-on-record",
        "a reading with values is on record as such",
        "api/streams/unmasking.py",
        ((', action="results.unmask")', ")"),),
        (f"{_JOBS_TEST}test_a_reading_with_values_is_on_record_as_such",),
    ),
    Mutant(
        "checks-that-contradict",
        "checks that no answer can pass together are refused",
        _CHECKS,
        (("    for contradiction in _contradictions(checks):\n        raise contradiction\n", ""),),
        (f"{_CHECKS_TEST}test_what_no_check_is_or_no_answer_passes_is_refused_by_its_place",),
    ),
    Mutant(
        "quoted-check",
        "no sentence of a decoder, which may quote what was sent, tells what is wrong with a check",
        _CHECKS,
        (("{len(strange)} field(s)", "{strange}"),),
        (f"{_CHECKS_TEST}test_a_refusal_holds_nothing_that_was_sent",),
    ),
    Mutant(
        "whole-words",
        "a word is not found within another",
        _CHECKS,
        (("    return all((sign.isalnum() or", "    return not left and all((sign.isalnum() or"),),
        (f"{_CHECKS_TEST}test_words_are_found_whole_and_in_any_case",),
    ),
    Mutant(
        "repeats-bounded",
        "what a pattern repeats is bounded",
        _CHECKING,
        (("> MAX_REPEATS:", "> 10**9:"),),
        (f"{_CHECKING_TEST}test_a_pattern_that_is_none_or_takes_too_much_is_refused",),
    ),
    Mutant(
        "schema-at-home",
        "a schema is fetched from nowhere",
        _CHECKING,
        ((", offline=True", ""),),
        (f"{_CHECKING_TEST}test_a_schema_of_a_file_of_the_worker_is_not_read",),
    ),
    Mutant(
        "all-answers-pass",
        "every answer of a row must pass",
        _CHECKING,
        (("if not all(passes(*answer)", "if not any(passes(*answer)"),),
        (f"{_CHECKING_TEST}test_all_answers_of_a_row_must_pass",),
    ),
    Mutant(
        "unlike-what-passed",
        "what passed is what later rows must be unlike",
        _CHECKING,
        (
            (
                "            for text, _ in answers:\n                self._remembered.add(",
                "            for text, _ in answers:\n                id(",
            ),
        ),
        (f"{_CHECKING_TEST}test_a_text_that_is_like_one_that_passed_before_fails",),
    ),
    Mutant(
        "tries-bounded",
        "a row is tried so often and no more",
        _TRYING,
        (("row.tries < self._tries", "row.tries < self._tries + 1"),),
        (f"{_TRYING_TEST}test_after_the_last_try_the_failure_names_the_check",),
    ),
    Mutant(
        "greedy-once",
        "a row that would say the same is not asked again",
        _TRYING,
        (("all(request.sampling.temperature > 0 for request", "all(request is not None for request"),),
        (f"{_TRYING_TEST}test_a_greedy_row_is_not_asked_again_since_it_would_say_the_same",),
    ),
    Mutant(
        "all-tries-count",
        "tokens of all tries count",
        _TRYING,
        (("self.used = self.used.plus(", "self.used = Usage().plus("),),
        (f"{_TRYING_TEST}test_tokens_of_all_tries_count",),
    ),
    Mutant(
        "no-seed-twice",
        "no seed of a row comes twice",
        "workers/tasks/generate/body.py",
        (("first = tried * self.n", "first = tried"),),
        (f"{_TRYING_TEST}test_all_answers_of_a_row_must_pass_and_no_seed_comes_twice",),
    ),
    Mutant(
        "unchecked-not-asked",
        "a worker that cannot check asks no model",
        _TRYING,
        (("        if unfit is None:\n", "        if True:\n"),),
        (f"{_TRYING_TEST}test_a_worker_that_cannot_check_fails_each_row_and_asks_no_model",),
    ),
    Mutant(
        "greedy-tries-refused",
        "second tries without a temperature are refused with the job",
        _FIELDS,
        (("    if tries not in (None, 1) and not", "    if False and not"),),
        (f"{_FIELDS_TEST}test_fields_that_no_job_can_have_are_refused_by_name",),
    ),
    Mutant(
        "missing-extra-refused",
        "a check that is not installed is refused with the job",
        _FIELDS,
        (("        Checker(read_checks(checks))\n", "        read_checks(checks)\n"),),
        (f"{_FIELDS_TEST}test_a_check_that_is_not_installed_is_refused_with_the_job",),
    ),
)
