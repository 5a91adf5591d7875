"""Guards of what a row may ask: grammars, masks, and the answers that are held to them."""

from typing import Final

from tests.faults.mutants.mutant import Mutant

_COMPILING: Final = "workers/grammars/compiling.py"
_COMPILING_TEST: Final = "tests/unit/workers/grammars/test_compiling.py::"
_MASKS_TEST: Final = "tests/unit/workers/grammars/test_masks.py::"
_ODD_TEST: Final = "tests/unit/workers/tasks/test_reading_odd.py::"
_ANSWERS_TEST: Final = "tests/unit/workers/tasks/test_generations.py::"

MUTANTS: Final = (
    Mutant(
        "held-to-its-form",
        "an answer that is not what it must look like is not delivered",
        "workers/inference/decoder.py",
        (("return said if meets(grammar, said.text) else", "return said if True else"),),
        (f"{_ANSWERS_TEST}test_an_answer_that_its_limit_cuts_is_a_failure_and_never_broken_json",),
    ),
    Mutant(
        "tokens-that-there-are",
        "a prompt of tokens that the model does not have never reaches it",
        "workers/inference/decoder.py",
        (("if given and int(ids.max()) >= vocabulary.size:", "if False:"),),
        (f"{_ANSWERS_TEST}test_a_prompt_may_be_tokens_of_the_model",),
    ),
    Mutant(
        "reading-costs-one",
        "what the reading of a row fails on costs no other row its answer",
        "workers/shard/reading.py",
        (("        except Exception as error:", "        except ZeroDivisionError as error:"),),
        (f"{_ODD_TEST}test_what_fails_in_reading_one_row_costs_no_neighbour_its_answer",),
    ),
    Mutant(
        "tokenising-costs-one",
        "what the tokenising of a prompt fails on costs no other row its answer",
        "workers/inference/decoder.py",
        (("        except Exception as error:", "        except ZeroDivisionError as error:"),),
        (f"{_ODD_TEST}test_what_fails_in_tokenising_one_prompt_costs_no_neighbour_its_answer",),
    ),
    Mutant(
        "bounded-logprobs",
        "what a row may be told of its tokens is bounded",
        "workers/tasks/generate/body.py",
        (("answers * limit * (1 + top_logprobs) > MAX_TOLD", "False"),),
        (f"{_ODD_TEST}test_logprobs_of_a_row_are_bounded_by_what_it_may_answer",),
    ),
    Mutant(
        "bounded-answers",
        "the answers of a row are bounded over all of its prompts",
        "workers/tasks/generate/body.py",
        (("if answers > MAX_ANSWERS:", "if False:"),),
        (f"{_ODD_TEST}test_answers_of_all_prompts_of_a_row_count_together",),
    ),
    Mutant(
        "one-fails-all",
        "a row is answered only where each of its answers is",
        "workers/tasks/generate/running.py",
        (("    if failed is not None:\n", "    if False:\n"),),
        (f"{_ANSWERS_TEST}test_where_one_of_n_answers_fails_the_row_does",),
    ),
    Mutant(
        "whole-again",
        "a row that lost one of its answers to a drain is asked again as a whole",
        "workers/tasks/generate/trying.py",
        (("if self.left or any(one is TAKEN_BACK for one in self._answers):", "if self.left:"),),
        (f"{_ANSWERS_TEST}test_a_row_that_lost_one_of_its_answers_to_a_drain_is_left_as_it_is",),
    ),
    Mutant(
        "endless-schema",
        "a schema that only something endless meets is refused as such",
        _COMPILING,
        (("    if not ends(read):\n        raise Unusable(UNMEETABLE)\n", ""),),
        (f"{_COMPILING_TEST}test_a_schema_that_cannot_is_refused_with_the_reason",),
    ),
    Mutant(
        "misshapen-schema",
        "no keyword has what does not belong there when llguidance reads a schema: it would quote it",
        _COMPILING,
        (("if (keyword := misshapen(read)) is not None:", "if (keyword := None) is not None:"),),
        (f"{_COMPILING_TEST}test_a_schema_that_cannot_is_refused_with_the_reason",),
    ),
    Mutant(
        "tried-out",
        "a pattern that explodes is found before anything runs",
        _COMPILING,
        (
            (
                "        _try_out(matcher_over(byte_tokenizer(), compiled(grammar)))\n",
                "        matcher_over(byte_tokenizer(), compiled(grammar))\n",
            ),
        ),
        (f"{_COMPILING_TEST}test_so_is_a_pattern_a_choice_or_a_grammar",),
    ),
    Mutant(
        "too-large-schema",
        "a schema that is too large or too deep is refused before it is read",
        _COMPILING,
        (("if _depth(read) > MAX_DEPTH or len(json.dumps(read)) > MAX_SOURCE_CHARS:", "if False:"),),
        (f"{_COMPILING_TEST}test_a_schema_that_cannot_is_refused_with_the_reason",),
    ),
    Mutant(
        "bounded-answer",
        "digits and texts under a schema come to an end",
        _COMPILING,
        (("grammar_from_json_schema(bounded(schema), overrides=options)", "grammar_from_json_schema(schema, overrides=options)"),),
        (f"{_MASKS_TEST}test_digits_come_to_an_end", f"{_MASKS_TEST}test_a_text_comes_to_an_end_and_nothing_is_spaced"),
    ),
    Mutant(
        "one-thing-at-a-time",
        "a matcher is asked nothing while its mask is made",
        "workers/grammars/masks.py",
        (("        self._next.result()\n        if token", "        if token"),),
        (f"{_MASKS_TEST}test_a_text_comes_to_an_end_and_nothing_is_spaced",),
    ),
    Mutant(
        "marks-of-its-tokenizer",
        "tokens of another model's tokenizer are refused",
        "workers/engines/encoders/encoding.py",
        (("        if not marked or len(ids)", "        if len(ids)"),),
        ("tests/unit/workers/engines/encoders/test_torch_encoder.py::test_tokens_of_the_models_own_tokenizer_are_known_by_their_marks",),
    ),
    Mutant(
        "knows-categories",
        "a model that knows no category moderates nothing",
        "workers/tasks/moderate/task.py",
        (("        return None if moderates(labels) else UNFIT", "        return None"),),
        (f"{_ANSWERS_TEST}test_a_model_that_moderates_nothing_is_refused_with_what_to_do_instead",),
    ),
)
