"""Guards of rules and templates."""

from typing import Final

from tests.faults.mutants.mutant import Mutant

_TREE: Final = "workers/content/yaml_tree.py"
_TREE_TEST: Final = "tests/unit/workers/content/test_yaml_tree.py::"
_RULES_TEST: Final = "tests/unit/workers/content/test_rules.py::"
_WRITER_TEST: Final = "tests/unit/workers/content/test_writer.py::"
_JOBS_TEST: Final = "tests/api/routes/test_written_jobs.py::"

MUTANTS: Final = (
    Mutant(
        "yaml-anchors",
        "a definition has no anchors, of which a small file makes a huge one",
        _TREE,
        (("if isinstance(event, yaml.AliasEvent) or event.anchor is not None:", "if isinstance(event, yaml.AliasEvent):"),),
        (f"{_TREE_TEST}test_a_bomb_of_aliases_is_refused_at_its_first_anchor",),
    ),
    Mutant(
        "yaml-depth",
        "a definition is nested only so deep",
        _TREE,
        (("if depth == MAX_DEPTH:", "if depth == 10**6:"),),
        (f"{_TREE_TEST}test_a_file_is_nested_only_so_deep",),
    ),
    Mutant(
        "yaml-twice",
        "of two fields of one name none is taken in silence",
        _TREE,
        (("            if name in fields:\n", "            if False:\n"),),
        (f"{_TREE_TEST}test_a_field_stands_once",),
    ),
    Mutant(
        "silent-expressions",
        "RE2 writes no expression of a tenant's to the log",
        "workers/content/patterns.py",
        (("    options.log_errors = False", "    options.log_errors = True"),),
        (f"{_RULES_TEST}test_an_expression_that_could_explode_is_refused_in_silence",),
    ),
    Mutant(
        "rules-tests",
        "rules whose own tests fail are refused",
        "workers/content/rules.py",
        (("        if failed:\n", "        if False:\n"),),
        (f"{_RULES_TEST}test_rules_whose_tests_fail_are_refused_by_number_and_line_and_not_by_content",),
    ),
    Mutant(
        "rows-times-conditions",
        "a long row is not held against conditions without end",
        "workers/content/rules.py",
        (("        if not self._light and", "        if False and"),),
        (f"{_RULES_TEST}test_neither_tests_nor_rows_are_held_against_more_than_some_seconds_of_conditions",),
    ),
    Mutant(
        "expressions-weigh",
        "a regular expression weighs what it may take for a character",
        "workers/content/conditions.py",
        (("REGEX_WEIGHT * (1 + repeats)", "0"),),
        (f"{_RULES_TEST}test_a_regular_expression_weighs_what_it_may_take_for_a_character",),
    ),
    Mutant(
        "rows-times-variants",
        "a long row is not held against a template's conditions without end",
        "workers/content/writer.py",
        (("if self._asks and", "if False and"),),
        (f"{_WRITER_TEST}test_no_row_is_held_against_more_than_some_seconds_of_conditions",),
    ),
    Mutant(
        "parts-explode",
        "parts that fill parts are bounded together",
        "workers/content/writer.py",
        (("    if cost > MAX_FILLED:", "    if cost > 10**12:"),),
        (f"{_WRITER_TEST}test_parts_that_fill_parts_do_not_explode",),
    ),
    Mutant(
        "parts-of-themselves",
        "a part is not made of itself",
        "workers/content/writer.py",
        (("            self._made[name] = None\n", ""),),
        (f"{_WRITER_TEST}test_a_template_that_means_nothing_is_refused_in_a_sentence",),
    ),
    Mutant(
        "answers-bounded",
        "what cells make of an answer is bounded before it is joined",
        "workers/content/filling.py",
        (
            ('        if left < 0:\n            raise Unanswered("answer_too_long")\n', ""),
            ('    if len(text) > MAX_ANSWER_CHARS:\n        raise Unanswered("answer_too_long")\n', ""),
        ),
        (f"{_RULES_TEST}test_an_answer_says_something_and_is_bounded",),
    ),
    Mutant(
        "missing-columns",
        "a column that rules look at and the file lacks is told before there is a job",
        "api/requests/batch_requests.py",
        (("    check_columns(store, actor, file_id, plan.columns)\n", ""),),
        (f"{_JOBS_TEST}test_a_column_that_the_file_lacks_is_told_before_there_is_a_job",),
    ),
    Mutant(
        "unread-columns",
        "rules that look at columns answer no row whose columns were not opened",
        "workers/tasks/writers.py",
        (("        if row.columns is None and self.made.columns:", "        if False:"),),
        (f"{_JOBS_TEST}test_rows_may_name_rules_that_look_at_their_text_and_fail_where_these_look_at_columns",),
    ),
)
