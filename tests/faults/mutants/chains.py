"""What the steps of a chain read, and when."""

from typing import Final

from tests.faults.mutants.mutant import Mutant

SOURCES: Final = "db/queue/sources.py"
MIGRATION: Final = "db/migrations/sql/0034_chains.sql"
_TEST: Final = "tests/db/queue/test_sources.py::"

MUTANTS: Final = (
    Mutant(
        "step-waits",
        "a step is not cut before those before it have ended",
        "db/queue/dispatch.py",
        (
            (
                "WHERE s.tenant_id = j.tenant_id AND s.job_id = j.job_id\n",
                "WHERE s.tenant_id = j.tenant_id AND s.job_id = j.job_id AND false\n",
            ),
        ),
        (f"{_TEST}test_a_step_is_not_cut_before_the_one_before_it_has_ended",),
    ),
    Mutant(
        "step-failed",
        "a row that failed in a step fails in those behind it",
        SOURCES,
        (("                row.fail(NO_ANSWER.format(number))", "                pass"),),
        (f"{_TEST}test_a_row_that_failed_in_a_step_fails_in_those_behind_it",),
    ),
    Mutant(
        "source-gone",
        "rows do not run without what they are to read",
        SOURCES,
        (("    if len(sources) < expected:", "    if False:"),),
        (f"{_TEST}test_rows_whose_source_is_gone_fail",),
    ),
    Mutant(
        "source-damage",
        "an answer of a step before that was altered is no answer",
        SOURCES,
        (("                row.fail(DAMAGED)", "                pass"),),
        (f"{_TEST}test_an_answer_that_was_altered_fails_its_row_and_is_on_record",),
    ),
    Mutant(
        "source-on-record",
        "what a step reads of another is on record, or is not seen",
        MIGRATION,
        (("      AND s.source_job_id IN (SELECT e.object_id FROM own_events e WHERE e.object_kind = 'job');", "      AND true;"),),
        (f"{_TEST}test_a_worker_sees_of_a_source_nothing_outside_its_rows_and_nothing_without_the_event",),
    ),
    Mutant(
        "source-range",
        "of a source a worker sees the rows of its shard alone",
        MIGRATION,
        (("    AND idx >= (SELECT l.first_idx FROM leased_shard l) AND idx < (SELECT l.end_idx FROM leased_shard l));", "    AND true);"),),
        (f"{_TEST}test_a_worker_sees_of_a_source_nothing_outside_its_rows_and_nothing_without_the_event",),
    ),
    Mutant(
        "source-one-file",
        "no job reads the results of another file, or its own",
        MIGRATION,
        (
            (
                "AS RESTRICTIVE FOR INSERT TO textmill_api WITH CHECK (\n    job_id",
                "AS RESTRICTIVE FOR INSERT TO textmill_api WITH CHECK (true OR\n    job_id",
            ),
        ),
        (f"{_TEST}test_the_database_lets_no_job_read_itself_or_another_file",),
    ),
)
