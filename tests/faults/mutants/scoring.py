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
        (("[(*path, END) if path in begun else path for path in paths]", "[path for path in paths]"),),
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
        (("        sums -= np.logaddexp.reduce(sums, axis=1, keepdims=True)\n", ""),),
        (f"{_BY_DECODER_TEST}test_windows_are_pooled_over_the_labels",),
    ),
)
