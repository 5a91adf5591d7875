"""What becomes of rows: results, recovery, the ends of jobs."""

from typing import Final

from tests.faults.mutants.mutant import Mutant

RESULTS: Final = "db/queue/results.py"
RECOVERY: Final = "db/queue/recovery.py"
ENDINGS: Final = "db/queue/endings.py"
ERASING: Final = "db/jobs/erasing.py"
LIFECYCLE: Final = "db/lifecycle.py"
_RESULTS_TEST: Final = "tests/db/queue/test_results.py::"
_RECOVERY_TEST: Final = "tests/db/queue/test_recovery.py::"
_SHARDS_TEST: Final = "tests/db/queue/test_shards.py::"
_LIFECYCLE_TEST: Final = "tests/unit/db/test_lifecycle.py::"
_PURGE_TEST: Final = "tests/db/jobs/test_purge.py::"
_READING_TEST: Final = "tests/db/jobs/test_results.py::"
_NEW_EPOCH: Final = "tests/db/queue/test_endings.py::test_shards_that_a_cancel_or_a_deadline_ended_have_a_new_epoch"

MUTANTS: Final = (
    Mutant(
        "fence-epoch",
        "results are written by the holder of the epoch only",
        RESULTS,
        (
            (
                "row.state != ShardState.LEASED or row.epoch != lease.epoch or not row.unexpired",
                "row.state != ShardState.LEASED or not row.unexpired",
            ),
        ),
        (f"{_RESULTS_TEST}test_a_zombie_cannot_store_results",),
    ),
    Mutant(
        "fence-expiry",
        "results are written under a lease that has not run out, by the database's clock",
        RESULTS,
        (("row.epoch != lease.epoch or not row.unexpired", "row.epoch != lease.epoch"),),
        (f"{_RESULTS_TEST}test_a_zombie_cannot_store_results",),
    ),
    Mutant(
        "fence-lock",
        "the shard is locked while its results are written",
        "db/queue/shards.py",
        (
            (
                "WHERE s.tenant_id = :tenant AND s.shard_id = :shard FOR UPDATE OF s\n",
                "WHERE s.tenant_id = :tenant AND s.shard_id = :shard\n",
            ),
        ),
        (f"{_RESULTS_TEST}test_a_shard_stays_locked_while_its_results_are_written",),
    ),
    Mutant(
        "one-result",
        "a row that has a result gets no second one",
        RESULTS,
        (
            (
                "FROM pg_temp.staged_results n\n    WHERE NOT EXISTS (SELECT FROM results r WHERE r.tenant_id = :tenant AND r.job_id = :job"
                " AND r.idx = n.idx\n                      AND r.idx >= :first AND r.idx < :end)\n",
                "FROM pg_temp.staged_results n\n",
            ),
        ),
        (f"{_RESULTS_TEST}test_a_write_whose_commit_was_in_doubt_can_be_repeated",),
    ),
    Mutant(
        "all-or-none",
        "a write stores all of its rows, or none",
        RESULTS,
        (("if stored == len(results):", "if stored:"),),
        (f"{_RESULTS_TEST}test_a_write_is_all_or_nothing_and_never_replaces_a_result",),
    ),
    Mutant(
        "repeat-same-epoch",
        "a write is taken for its own repetition at its own epoch only",
        RESULTS,
        ((" AND r.idx >= :first AND r.idx < :end AND r.epoch = :epoch\n", " AND r.idx >= :first AND r.idx < :end\n"),),
        (f"{_RESULTS_TEST}test_a_write_is_all_or_nothing_and_never_replaces_a_result",),
    ),
    Mutant(
        "count-when-stored",
        "what a repeated write finds there already is not counted again",
        RESULTS,
        (("if stored or (metrics and not results):", "if results or metrics:"),),
        (f"{_RESULTS_TEST}test_a_last_write_of_rows_that_are_all_stored_counts_nothing_twice",),
    ),
    Mutant(
        "inside-the-shard",
        "a result names a row of its own shard",
        RESULTS,
        ((" or any(not lease.first_idx <= idx < lease.end_idx for idx in idxs)", ""),),
        (f"{_RESULTS_TEST}test_rows_outside_the_shard_or_given_twice_are_refused",),
    ),
    Mutant(
        "done-means-all",
        "a shard is done only when every row has an outcome",
        RESULTS,
        (("open_rows = 0 if stored == lease.end_idx - lease.first_idx else shards.count_open(conn, lease)", "open_rows = 0"),),
        (f"{_RESULTS_TEST}test_a_holder_that_is_through_with_rows_open_gives_the_shard_back",),
    ),
    Mutant(
        "reap-epoch",
        "the reconciler asks again under the lock: the epoch it saw",
        RECOVERY,
        (("AND s.shard_id = :shard AND s.epoch = :epoch\n      AND s.state", "AND s.shard_id = :shard\n      AND s.state"),),
        (f"{_RECOVERY_TEST}test_a_reconciler_that_looked_too_early_changes_nothing",),
    ),
    Mutant(
        "reap-expiry",
        "the reconciler asks again under the lock: a lease that has run out",
        RECOVERY,
        (
            (
                "AND s.state = 'leased' AND (s.lease_expires_at <= clock_timestamp() OR s.worker = CAST(:dead AS text))\n",
                "AND s.state = 'leased' AND (true OR s.worker = CAST(:dead AS text))\n",
            ),
        ),
        (f"{_RECOVERY_TEST}test_a_reconciler_that_looked_too_early_changes_nothing",),
    ),
    Mutant(
        "reap-lock",
        "the reconciler locks the shard before it frees it",
        RECOVERY,
        (
            (
                "OR s.worker = CAST(:dead AS text))\n    FOR UPDATE OF s SKIP LOCKED\n",
                "OR s.worker = CAST(:dead AS text))\n",
            ),
        ),
        (f"{_RECOVERY_TEST}test_a_reconciler_holds_what_it_frees",),
    ),
    Mutant(
        "reap-clock",
        "leases run out by the database's clock",
        RECOVERY,
        (
            (
                '_FOUND + "s.lease_expires_at <= now()"',
                '_FOUND + "s.lease_expires_at <= to_timestamp(:client)"',
            ),
            (
                "AND (s.lease_expires_at <= clock_timestamp() OR",
                "AND (s.lease_expires_at <= to_timestamp(:client) OR",
            ),
            ("_EXPIRED, place, limit=REAPED_AT_ONCE)", '_EXPIRED, place, limit=REAPED_AT_ONCE, client=__import__("time").time())'),
            ('"epoch": expired.epoch, "dead": dead}', '"epoch": expired.epoch, "dead": dead, "client": __import__("time").time()}'),
        ),
        ("tests/db/queue/test_clocks.py::test_a_live_lease_is_not_reaped_by_a_clock_that_is_ahead",),
    ),
    Mutant(
        "crash-counts",
        "a holder's death is counted",
        LIFECYCLE,
        (("crashes = shard.crash_attempts + 1", "crashes = shard.crash_attempts"),),
        (f"{_RECOVERY_TEST}test_a_lease_that_ran_out_makes_its_shard_ready_again",),
    ),
    Mutant(
        "blame-alone",
        "a row is blamed only where nothing else died with it",
        LIFECYCLE,
        (("if not shard.in_company or crashes > MAX_CRASHES_IN_COMPANY:", "if True:"),),
        (f"{_RECOVERY_TEST}test_a_single_row_that_was_not_alone_in_its_worker_is_tried_again",),
    ),
    Mutant(
        "whole-is-never-halved",
        "a shard whose task needs all rows at once is not halved",
        LIFECYCLE,
        (("    if len(open_idx) > 1 and not shard.whole:\n", "    if len(open_idx) > 1:\n"),),
        (f"{_RECOVERY_TEST}test_a_training_is_never_halved_however_often_its_workers_die",),
    ),
    Mutant(
        "whole-runs-again-whole",
        "a job whose task needs all rows at once runs again as a whole",
        "db/jobs/steering.py",
        (("    if conn.execute(_IS_WHOLE, ", "    if False and conn.execute(_IS_WHOLE, "),),
        ("tests/db/jobs/test_steering.py::test_a_training_is_run_again_on_all_its_examples_and_makes_a_head_of_its_own",),
    ),
    Mutant(
        "counts-of-halves",
        "what is counted of a shard that is halved goes with its rows",
        RECOVERY,
        (("completed=-stored.completed, failed=-stored.failed)", "completed=0, failed=0)"),),
        (f"{_RECOVERY_TEST}test_each_half_counts_its_own_rows",),
    ),
    Mutant(
        "cost-of-halves",
        "what is left of a shard that was halved costs half",
        RECOVERY,
        (("cost=row.cost / 2, ", ""),),
        (f"{_RECOVERY_TEST}test_both_halves_of_a_shard_cost_half_of_it",),
    ),
    Mutant(
        "company-at-the-claim",
        "what a suspect was claimed beside is kept with the claim",
        "db/queue/shards.py",
        (("in_company = not idle or len(order) > 1\n", "in_company = False\n"),),
        (f"{_RECOVERY_TEST}test_a_suspect_claimed_in_company_is_not_blamed_whenever_the_others_were_freed",),
    ),
    Mutant(
        "stale-look",
        "a dispatcher that looked before a retry ends nothing",
        "db/queue/endings.py",
        (("AND state = :state AND retry_count = :retries", "AND state = :state"),),
        ("tests/db/jobs/test_steering.py::test_a_dispatcher_that_looked_before_a_retry_does_not_end_the_job",),
    ),
    Mutant(
        "steering-lock",
        "an owner's call locks its job so that a halving can go on",
        "db/jobs/chains.py",
        (("with_for_update(key_share=True)", "with_for_update()"),),
        ("tests/db/queue/test_interleavings.py::test_a_shard_that_is_halved_while_its_owner_steers_the_job_locks_nobody_out",),
    ),
    Mutant(
        "drain-refund",
        "a drain costs no attempt",
        LIFECYCLE,
        (
            (
                'no attempt is counted."""\n    return _free(shard, _freed_state(job_state))',
                'no attempt is counted."""\n    shard = replace(shard, error_attempts=shard.error_attempts + 1)\n'
                "    return _free(shard, _freed_state(job_state))",
            ),
        ),
        (f"{_SHARDS_TEST}test_a_drain_gives_the_shard_back_at_once_and_costs_nothing",),
    ),
    Mutant(
        "backoff",
        "a shard that failed is put off",
        LIFECYCLE,
        (("not_before=now + backoff_seconds(attempts, jitter)", "not_before=now"),),
        (f"{_SHARDS_TEST}test_errors_put_a_shard_off_and_at_last_fail_its_open_rows_only",),
    ),
    Mutant(
        "backoff-doubles",
        "it is put off for longer each time",
        LIFECYCLE,
        (("BACKOFF_SECONDS * 2.0 ** (attempts - 1))", "BACKOFF_SECONDS)"),),
        (f"{_LIFECYCLE_TEST}test_a_backoff_doubles_until_its_limit",),
    ),
    Mutant(
        "errors-end",
        "a shard that always fails is not tried for ever",
        LIFECYCLE,
        (("if open_rows == 0 or attempts > MAX_ERRORS:", "if open_rows == 0:"),),
        (f"{_SHARDS_TEST}test_errors_put_a_shard_off_and_at_last_fail_its_open_rows_only",),
    ),
    Mutant(
        "empty-finish",
        "a holder that stores nothing and leaves rows open has failed",
        LIFECYCLE,
        (("    if stored == 0:\n", "    if stored < 0:\n"),),
        (f"{_RESULTS_TEST}test_a_holder_that_is_through_with_rows_open_gives_the_shard_back",),
    ),
    Mutant(
        "cancelled-is-nobodys",
        "what is given back of a job that is being cancelled goes to nobody",
        LIFECYCLE,
        (("return ShardState.READY if job_state is JobState.IN_PROGRESS else ShardState.CANCELLED", "return ShardState.READY"),),
        (f"{_SHARDS_TEST}test_a_shard_of_a_cancelled_job_that_is_given_back_goes_to_nobody",),
    ),
    Mutant(
        "end-epoch",
        "a job's end fences its holders by a new epoch: the rule",
        LIFECYCLE,
        (("return replace(_free(shard, ended), epoch=shard.epoch + 1)", "return _free(shard, ended)"),),
        (f"{_LIFECYCLE_TEST}test_an_ended_shard_has_a_new_epoch",),
    ),
    Mutant(
        "cancel-epoch",
        "a job's end fences its holders by a new epoch: cancel",
        ENDINGS,
        (("SET state = 'cancelled', epoch = s.epoch + 1, not_before", "SET state = 'cancelled', not_before"),),
        (_NEW_EPOCH,),
    ),
    Mutant(
        "expire-epoch",
        "a job's end fences its holders by a new epoch: deadline",
        ENDINGS,
        (("SET state = 'expired', epoch = epoch + 1, lease_expires_at", "SET state = 'expired', lease_expires_at"),),
        (_NEW_EPOCH,),
    ),
    Mutant(
        "expire-live-only",
        "a job whose last row came in time completes",
        ENDINGS,
        (("if conn.execute(_LOCK_LIVE_SHARDS, key).first() is None and", "if False and"),),
        ("tests/db/queue/test_endings.py::test_a_job_whose_last_row_came_while_it_was_found_overdue_completes",),
    ),
    Mutant(
        "end-locks-no-key",
        "the end of a job leaves its key to be referred to",
        ENDINGS,
        (("FOR NO KEY UPDATE SKIP LOCKED", "FOR UPDATE SKIP LOCKED"),),
        ("tests/db/queue/test_interleavings.py::test_a_shard_that_is_halved_while_its_jobs_deadline_passes_locks_nobody_out",),
    ),
    Mutant(
        "read-to-the-gap",
        "a running job is read as far as its first open row",
        "db/jobs/results.py",
        (("            end_idx = rows_in_order(conn, actor.tenant_id, job_id)\n", ""),),
        (
            f"{_READING_TEST}test_a_running_job_is_read_as_far_as_its_first_open_row",
            f"{_READING_TEST}test_a_reader_that_polls_until_the_end_sees_every_row_once",
        ),
    ),
    Mutant(
        "gap-inside-a-shard",
        "a row that is open inside a shard is a gap too",
        "db/jobs/in_order.py",
        (("FILTER (WHERE placed.idx = s.first_idx + placed.place) ", ""),),
        (f"{_READING_TEST}test_a_running_job_is_read_as_far_as_its_first_open_row",),
    ),
    Mutant(
        "one-end-of-a-reading",
        "a reading ends where it was to end when it began",
        "db/jobs/results.py",
        (('"end": reading.end_idx, "limit"', '"end": NO_END, "limit"'),),
        (f"{_READING_TEST}test_a_reading_ends_where_it_was_to_end_when_it_began",),
    ),
    Mutant(
        "one-state-of-a-reading",
        "what a job's errors are does not change within a reading",
        "db/jobs/results.py",
        (
            (
                "found = _fetch_rows(conn, actor, reading, limit",
                "found = _fetch_rows(conn, actor, _begin(store, actor, job_id, reading.which, None), limit",
            ),
        ),
        (f"{_READING_TEST}test_a_job_that_is_cancelled_while_its_errors_are_read_does_not_change_them",),
    ),
    Mutant(
        "read-on-after-a-retry",
        "who reads on behind rows that have run again is told so",
        "db/jobs/results.py",
        (("after.run != job.retry_count and", "False and"),),
        (f"{_READING_TEST}test_who_reads_on_after_rows_have_run_again_is_told",),
    ),
    Mutant(
        "one-run-of-a-reading",
        "a reading that a retry meets does not look complete",
        "db/jobs/results.py",
        (("    if job.retry_count != reading.run:\n        raise denied(", "    if False:\n        raise denied("),),
        (f"{_READING_TEST}test_a_reading_that_a_retry_meets_does_not_look_complete",),
    ),
    Mutant(
        "repeated-in-a-line",
        "a field that a batch line has twice is not taken from its last place",
        "api/formats/jsonl.py",
        (("    name = Members.of(line).repeated(_LINE_FIELDS)\n", "    name = None\n"),),
        ("tests/unit/api/formats/test_jsonl.py::test_a_field_that_a_batch_line_has_twice_is_refused_and_not_the_last_taken",),
    ),
    Mutant(
        "chosen-column-told",
        "a failure code does not tell the name of a column that the user chose",
        "api/formats/jsonl.py",
        (("chosen.get(name, name)", "name"),),
        ("tests/unit/api/formats/test_jsonl.py::test_a_column_that_the_user_chose_is_told_by_what_it_is_for",),
    ),
    Mutant(
        "empty-at-the-end",
        "a result file without a row is empty, also when the job has just ended",
        "api/routes/files.py",
        (
            (
                "    place = None if after is None else parse_line_id(after, ref.id)\n",
                "    place = None if after is None else parse_line_id(after, ref.id)\n"
                "    job = get_job(front.store, actor, ref.id)\n"
                "    if job.ended and file_id not in result_files(job):\n        raise file_not_found()\n",
            ),
        ),
        ("tests/api/routes/test_files.py::test_a_result_file_without_a_row_is_empty_while_the_job_runs_and_after_its_end",),
    ),
    Mutant(
        "both-files-to-one-row",
        "the two files of a running job are merged as far as it told, and no further",
        "api/cli/work/outcomes.py",
        (("                if end_row is not None and outcome.row > end_row:\n                    return\n", ""),),
        ("tests/unit/api/cli/work/test_outcomes.py::test_of_a_job_that_runs_both_files_are_read_as_far_as_it_told",),
    ),
    Mutant(
        "missing-rows-are-told",
        "what was received is compared with the job's counts",
        "api/cli/work/delivery.py",
        (("missing = tally.missing_of(expected_rows(batch, errors_only=self._errors_only))\n", "missing = 0\n"),),
        ("tests/unit/api/cli/work/test_delivery.py::test_rows_that_are_missing_in_what_was_read_are_told_of",),
    ),
    Mutant(
        "half-rows-are-taken-back",
        "a file that grows holds whole rows, also where the disk is full",
        "api/cli/work/outputs.py",
        (("            os.ftruncate(self._file, self._bytes)\n", ""),),
        ("tests/unit/api/cli/work/test_outputs.py::test_a_disk_that_is_full_leaves_whole_rows_in_a_file_that_grows",),
    ),
    Mutant(
        "rows-come-once",
        "of rows that come one by one each is read once",
        "api/cli/work/delivery.py",
        (("            self._row = outcome.row\n", ""),),
        ("tests/unit/api/cli/work/test_delivery.py::test_rows_are_in_the_file_as_they_come_and_each_is_read_once",),
    ),
    Mutant(
        "all-failed-is-failed",
        "a job in which every row failed has failed",
        ENDINGS,
        (("live_shards=False, deadline_passed=False, all_failed=all_failed)", "live_shards=False, deadline_passed=False)"),),
        ("tests/db/queue/test_endings.py::test_a_job_in_which_every_row_failed_has_failed_and_says_why",),
    ),
    Mutant(
        "failed-keeps-ids",
        "the failures of a job in which every row failed keep their custom ids",
        "db/files/files.py",
        (('or_(jobs.c.state != "failed", jobs.c.failed_count > 0)', 'jobs.c.state != "failed"'),),
        ("tests/db/queue/test_endings.py::test_a_job_in_which_every_row_failed_has_failed_and_says_why",),
    ),
    Mutant(
        "cancel-waits",
        "a cancelled job ends when its holders have let go",
        LIFECYCLE,
        (("if state is JobState.CANCELLING and not live_shards:", "if state is JobState.CANCELLING:"),),
        ("tests/unit/db/test_lifecycle.py::test_a_cancelled_job_waits_for_its_holders_whatever_its_deadline",),
    ),
    Mutant(
        "cut-once",
        "a job is cut once",
        "db/queue/dispatch.py",
        (
            (
                "WHERE tenant_id = :tenant AND job_id = :job AND state = 'validating' AND {_SOURCES_ENDED}",
                "WHERE tenant_id = :tenant AND job_id = :job AND {_SOURCES_ENDED}",
            ),
        ),
        ("tests/db/queue/test_dispatch.py::test_a_job_is_cut_once_by_dispatchers_at_once",),
    ),
    Mutant(
        "one-behind",
        "an item that cannot be moved keeps nobody behind it waiting",
        "db/sweeps.py",
        (("            if _is_away(error):\n                raise\n", "            raise\n"),),
        ("tests/db/test_sweeps.py::test_a_job_with_a_locked_shard_does_not_keep_others_from_expiring",),
    ),
    Mutant(
        "sweep-goes-on",
        "a full page of what cannot be done keeps nobody behind it waiting for ever",
        "db/sweeps.py",
        (("        self.place.at, self.place.id = (self.items[-1].at, self.items[-1].id) if behind else (None, None)\n", ""),),
        ("tests/db/test_sweeps.py::test_a_full_page_of_jobs_that_cannot_be_moved_keeps_those_behind_it_no_longer_than_a_pass",),
    ),
    Mutant(
        "sweep-away",
        "a sweep ends where the database is away",
        "db/sweeps.py",
        (("if _is_away(error):", "if False:"),),
        ("tests/db/test_sweeps.py::test_a_sweep_ends_where_its_connection_is_lost",),
    ),
    Mutant(
        "erased-out-of-sight",
        "an upload whose rows are being erased takes no more",
        "db/files/files.py",
        ((".values(state=ERASING, **_NAMELESS)", ".values(**_NAMELESS)"),),
        ("tests/db/files/test_purge.py::test_an_upload_that_is_being_erased_takes_no_more_rows_and_is_not_finished",),
    ),
    Mutant(
        "doubles-of-an-upload",
        "doubles are marked in a file that is still uploading, and in no other",
        "db/files/rows.py",
        (("                if conn.execute(_LOCK, self._key).one_or_none() is None:\n                    raise _upload_gone()\n", ""),),
        ("tests/db/files/test_rows.py::test_very_many_doubles_are_marked_in_pages_and_a_file_that_is_purged_meanwhile_is_not_finished",),
    ),
    Mutant(
        "deleted-fenced-off",
        "who is at work on a deleted job stores nothing more",
        ERASING,
        (("    conn.execute(_FENCE_OFF, key)\n", ""),),
        (f"{_PURGE_TEST}test_nothing_of_a_large_job_that_is_deleted_while_it_runs_is_claimed_stored_or_ended",),
    ),
    Mutant(
        "deleted-key",
        "the key of a deleted job is gone before its rows are",
        ERASING,
        (("    conn.execute(_ERASE_KEY, key)\n", ""),),
        (f"{_PURGE_TEST}test_a_large_job_is_gone_for_its_owner_at_once_and_its_key_too",),
    ),
    Mutant(
        "deleted-to-the-last-shard",
        "no result outlives its job, not even of a shard that was halved meanwhile",
        ERASING,
        (("    if conn.execute(_ERASE_SHARDS_LEFT, key).rowcount:", "    if False:"),),
        (f"{_PURGE_TEST}test_what_is_written_under_a_shard_that_came_behind_the_pages_is_erased_too",),
    ),
    Mutant(
        "expired-results-hidden",
        "results are not read past their expiry",
        "db/jobs/results.py",
        (("return job.results_expired or (", "return ("),),
        (f"{_PURGE_TEST}test_expired_results_are_gone_at_once_and_erased_by_the_purge",),
    ),
    Mutant(
        "twins-in-turn",
        "two tries of one request at once make one job",
        "db/jobs/creating.py",
        (("SELECT pg_advisory_xact_lock(hashtextextended(:tenant, :salt))", "SELECT hashtextextended(:tenant, :salt)"),),
        ("tests/db/jobs/test_jobs.py::test_one_request_sent_many_times_at_once_makes_one_job",),
    ),
)
