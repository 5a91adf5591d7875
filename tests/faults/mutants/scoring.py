"""Guards of labels by a decoder: how choices are scored, and what is asked about."""

from typing import Final

from tests.faults.mutants.mutant import Mutant

_CHOICES: Final = "workers/engines/contract/choices.py"
_ATTENTION: Final = "workers/engines/decoders/attention.py"
_CONTRACT: Final = "workers/engines/contract/decoding.py"
_CHOICES_TEST: Final = "tests/unit/workers/engines/contract/test_choices.py::"
_RUNNING: Final = "workers/tasks/classify/running.py"
_BY_DECODER: Final = "workers/tasks/classify/by_decoder.py"
_BY_DECODER_TEST: Final = "tests/unit/workers/tasks/test_by_decoder.py::"
_SCORING_TEST: Final = "tests/workers/engines/decoders/test_scoring.py::"

MUTANTS: Final = (
    Mutant(
        "choices-do-not-see-each-other",
        "a choice is read beside the others, not behind them",
        _ATTENTION,
        (("        chosen[~seen] = -1\n", ""),),
        (f"{_SCORING_TEST}test_each_family_scores_choices_as_transformers_does_with_and_without_a_shared_beginning",),
    ),
    Mutant(
        "choices-follow-the-prompt",
        "each choice stands right behind the prompt, wherever it is read",
        _ATTENTION,
        (("self.prompt + self.choices.depths[own - self.prompt : end - self.prompt]", "np.arange(own, end)"),),
        (f"{_SCORING_TEST}test_windows_count_a_choice_from_where_it_stands_and_not_from_where_it_is_read",),
    ),
    Mutant(
        "a-prefix-ends-to-be-chosen",
        "a label that another begins with is chosen only where the answer ends behind it",
        _CHOICES,
        (("if way[-1] in goes_on:", "if False:"),),
        (f"{_CHOICES_TEST}test_a_choice_that_another_goes_on_from_ends_there_to_be_chosen",),
    ),
    Mutant(
        "choices-take-room",
        "the tokens of choices count into what runs together on a lane",
        _CONTRACT,
        (("(self.max_tokens if self.choices is None else len(self.choices.tokens))", "self.max_tokens"),),
        (f"{_SCORING_TEST}test_a_row_takes_room_for_the_tokens_of_its_choices",),
    ),
    Mutant(
        "a-decoder-is-asked",
        "a row that names a decoder is labelled by it",
        _RUNNING,
        (('if group.card is not None and group.card.kind == "decoder":', "if False:"),),
        (f"{_BY_DECODER_TEST}test_a_decoder_is_asked_for_the_label_and_its_scores_are_a_softmax_over_them",),
    ),
    Mutant(
        "labels-shared-within-a-tenant",
        "the list of labels is read once for a tenant, and never for two",
        _BY_DECODER,
        (("tenant=work.ticket.tenant", 'tenant="all"'),),
        (f"{_BY_DECODER_TEST}test_what_prompts_share_is_shared_within_their_tenant",),
    ),
    Mutant(
        "room-behind-the-prompt",
        "a prompt leaves room for the longest label behind it",
        _BY_DECODER,
        (("self._limit = max_tokens - self.choices.deepest", "self._limit = max_tokens"),),
        (f"{_BY_DECODER_TEST}test_a_long_text_is_cut_refused_or_read_in_windows_and_the_labels_are_whole",),
    ),
    Mutant(
        "logprobs-over-the-labels",
        "orders and windows are averaged as logprobs over the labels, and not as they are scored",
        _BY_DECODER,
        (("(sums - np.logaddexp.reduce(sums, axis=2, keepdims=True)).mean(axis=1)", "sums.mean(axis=1)"),),
        (f"{_BY_DECODER_TEST}test_windows_are_pooled_over_the_labels",),
    ),
    Mutant(
        "bias-is-taken-off",
        "what labels get without a text is taken off what they get with one",
        _BY_DECODER,
        (("self._sums(scored) - self._bias", "self._sums(scored)"),),
        (f"{_BY_DECODER_TEST}test_a_model_that_goes_on_with_texts_is_shown_no_list_and_what_labels_get_without_a_text_is_taken_off",),
    ),
    Mutant(
        "calibrated-or-not",
        "scores that are asked for uncalibrated are the model's own",
        _BY_DECODER,
        (("asking.goes_on if ask.calibrated is None else ask.calibrated", "asking.goes_on"),),
        (f"{_BY_DECODER_TEST}test_a_row_says_whether_its_scores_are_calibrated",),
    ),
    Mutant(
        "one-list-two-calibrations",
        "rows of one list that are calibrated and rows that are not are told apart",
        _BY_DECODER,
        (("ask.length_normalised, ask.calibrated\n", "ask.length_normalised\n"),),
        (f"{_BY_DECODER_TEST}test_a_row_says_whether_its_scores_are_calibrated",),
    ),
    Mutant(
        "a-calibration-that-failed",
        "where a text that says nothing could not be scored, no row of its list is answered as if it had been",
        _BY_DECODER,
        (('self.fault = _failed(answers) or ""', "pass"), ("if answers and not self.fault:", "if answers and _failed(answers) is None:")),
        (f"{_BY_DECODER_TEST}test_where_nothing_is_held_of_a_text_that_says_nothing_the_rows_of_its_list_fail",),
    ),
    Mutant(
        "labels-are-counted-first",
        "labels of more tokens than the model reads are refused before anything is made of them",
        _BY_DECODER,
        (("if (left := left - len(answers[-1])) < 0:", "if (left := left - len(answers[-1])) < -(10**9):"),),
        (f"{_BY_DECODER_TEST}test_long_labels_are_refused_before_anything_is_made_of_them",),
    ),
    Mutant(
        "windows-are-counted-first",
        "windows in all orders are counted before they are made",
        _BY_DECODER,
        (("* self._limit > MOST_TOKENS:", "* self._limit > 100 * MOST_TOKENS:"),),
        (f"{_BY_DECODER_TEST}test_a_row_of_more_windows_and_orders_than_it_may_ask_is_refused_before_they_are_made",),
    ),
    Mutant(
        "windows-have-room",
        "a list that leaves little room is not read again for every few words",
        _BY_DECODER,
        (("LEAST_PART: Final = 0.25", "LEAST_PART: Final = 0.0"),),
        (f"{_BY_DECODER_TEST}test_a_list_that_leaves_little_room_is_not_read_over_and_over_for_a_text_in_windows",),
    ),
    Mutant(
        "windows-stop",
        "a long text that nobody waits for is read no further",
        _BY_DECODER,
        (("            if ticket.stopped:\n                raise Stopped\n", ""),),
        (f"{_BY_DECODER_TEST}test_nothing_more_is_read_once_its_job_has_stopped",),
    ),
    Mutant(
        "rows-stop",
        "rows that nobody waits for are not read",
        _BY_DECODER,
        (("        if work.ticket.stopped:\n            raise Stopped\n", ""),),
        (f"{_BY_DECODER_TEST}test_nothing_more_is_read_once_its_job_has_stopped",),
    ),
    Mutant(
        "lists-follow-each-other",
        "prompts that begin alike follow each other",
        _BY_DECODER,
        (("key=lambda at: (id(prompts[at][0]), prompts[at][1])", "key=lambda at: at"),),
        (f"{_BY_DECODER_TEST}test_prompts_that_begin_alike_follow_each_other_and_each_row_gets_its_own_answers",),
    ),
    Mutant(
        "each-row-its-answers",
        "in whatever order prompts are read, each row gets its own answers",
        _BY_DECODER,
        (("found_at[at] for at", "call.answers[at] for at"),),
        (f"{_BY_DECODER_TEST}test_prompts_that_begin_alike_follow_each_other_and_each_row_gets_its_own_answers",),
    ),
    Mutant(
        "lists-count",
        "a row counts with its list of labels, in each order, where chunks are cut",
        "workers/tasks/classify/task.py",
        (("return (sum(map(len, (*labels, *described))) + chars) * min(ask.rotations or 1, len(labels))", "return chars"),),
        ("tests/unit/workers/shard/test_costs.py::test_a_decoders_row_counts_with_its_list_in_each_order",),
    ),
    Mutant(
        "own-descriptions-fit",
        "a row's own descriptions are of labels of the job's list",
        "workers/tasks/classify/task.py",
        (("if body.descriptions and body.labels is not None and not", "if False and not"),),
        ("tests/unit/workers/tasks/test_reading.py::test_a_rows_own_descriptions_are_of_labels_of_the_default_list",),
    ),
)
