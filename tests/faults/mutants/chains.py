"""What the steps of a chain read, and when."""

from typing import Final

from tests.faults.mutants.mutant import Mutant

SOURCES: Final = "db/queue/sources.py"
MIGRATION: Final = "db/migrations/sql/0034_chains.sql"
STEERING: Final = "db/jobs/steering.py"
_CHAINS: Final = "tests/db/jobs/test_chains.py::"
_PURGE: Final = "tests/db/jobs/test_purge.py::"
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
        "source-bytes",
        "what a step reads of others counts among the bytes that are opened at once",
        "db/queue/shards.py",
        (("a.idx < %(end)s AND a.outcome = 1) END", "a.idx < %(end)s AND false) END"),),
        (f"{_TEST}test_what_steps_before_made_is_opened_in_parts_where_it_is_long",),
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
    Mutant(
        "retried-steps-wait",
        "a step that is run again waits for those before it",
        "db/lifecycle.py",
        (("JobState.VALIDATING if again else following", "following"),),
        (f"{_CHAINS}test_a_retry_runs_what_failed_again_step_by_step_and_no_other_row",),
    ),
    Mutant(
        "retried-steps-cut-once",
        "a step that is run again is not cut a second time",
        "db/queue/dispatch.py",
        (("      AND NOT EXISTS (SELECT FROM shards s WHERE s.tenant_id = :tenant AND s.job_id = :job)\n", ""),),
        (f"{_CHAINS}test_a_retry_runs_what_failed_again_step_by_step_and_no_other_row",),
    ),
    Mutant(
        "cancelled-steps",
        "a cancel ends all steps of a chain",
        "db/lifecycle.py",
        (("    return [cancelled_job(state) or state for state in states]", "    return [*states[:-1], JobState.CANCELLING]"),),
        (f"{_CHAINS}test_a_cancel_ends_the_steps_that_have_not_ended",),
    ),
    Mutant(
        "steps-on-record",
        "what is done to a chain is on record for each step, and sees each one's results",
        STEERING,
        (("        record_act(conn, store, actor, action, **about_job(step.job_id))", "        pass"),),
        (f"{_CHAINS}test_a_chain_is_deleted_with_all_its_steps",),
    ),
    Mutant(
        "read-results-stay",
        "results that a live job reads are not deleted",
        "db/jobs/chains.py",
        (("    if conn.execute(_READERS, asked).scalar_one():", "    if False:"),),
        (f"{_CHAINS}test_results_that_a_live_job_reads_are_not_deleted",),
    ),
    Mutant(
        "steps-expire-together",
        "what the steps of a chain made is kept until its last has ended",
        "db/queue/endings.py",
        (("CASE WHEN chain_id IS NULL OR chain_id = job_id THEN now()", "CASE WHEN true THEN now()"),),
        (f"{_CHAINS}test_what_the_steps_made_expires_with_what_the_last_made",),
    ),
    Mutant(
        "retry-keeps-steps",
        "a retry of a chain keeps what the steps that stay as they are have made",
        STEERING,
        (("    for step in steps:\n        conn.execute(_KEEP,", "    for step, _ in changed:\n        conn.execute(_KEEP,"),),
        (f"{_CHAINS}test_a_retry_keeps_what_it_reads_until_the_whole_has_ended_again",),
    ),
    Mutant(
        "late-steps-expire",
        "a step that ends behind the last of its chain is kept no longer than that",
        "db/queue/endings.py",
        (("            ELSE results_expire_at END,", "            END,"),),
        (f"{_CHAINS}test_a_step_that_ends_behind_the_last_is_kept_as_long",),
    ),
    Mutant(
        "waiting-ends",
        "a job that waits for another is ended at its deadline",
        "db/queue/endings.py",
        (("IN ('validating', 'in_progress') AND j.deadline", "IN ('in_progress') AND j.deadline"),),
        (f"{_CHAINS}test_a_job_that_waits_for_another_is_ended_at_its_deadline",),
    ),
    Mutant(
        "steps-last-together",
        "a step of a chain is kept as long as its last",
        "db/jobs/purge.py",
        (("AND w.job_id = j.chain_id AND", "AND w.job_id = j.job_id AND"),),
        (f"{_PURGE}test_the_steps_of_a_chain_are_kept_as_long_as_its_last",),
    ),
    Mutant(
        "purge-asks-again",
        "what a job came to read while the purge locked it is kept",
        "db/jobs/purge.py",
        (("            conn.execute(_LOCK, due)\n", ""),),
        (f"{_PURGE}test_what_a_job_came_to_read_while_it_was_locked_is_kept",),
    ),
    Mutant(
        "source-gone-meanwhile",
        "what expired while it was read is no damage",
        SOURCES,
        (("for source_id, source in found if source_id in still_there]", "for _, source in found]"),),
        (f"{_TEST}test_rows_whose_source_is_erased_while_it_is_read_fail_as_if_it_had_gone_before",),
    ),
    Mutant(
        "read-job-not-retried",
        "a job is not run again while another that runs reads it",
        STEERING,
        (("    refuse_if_read(conn, actor.tenant_id, [step.job_id for step in steps], {", "    _ = (conn, {"),),
        (f"{_CHAINS}test_a_job_is_not_run_again_while_another_that_runs_reads_it",),
    ),
)
