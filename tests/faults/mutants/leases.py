"""Who may hold a shard: claims, epochs, clocks, heartbeats."""

from typing import Final

from tests.faults.mutants.mutant import Mutant

SHARDS: Final = "db/queue/shards.py"
TURNS: Final = "db/queue/turns.py"
LEADER: Final = "db/queue/leader.py"
_SHARDS_TEST: Final = "tests/db/queue/test_shards.py::"
_LEADER_TEST: Final = "tests/db/queue/test_leader.py::"
_CLOCKS_TEST: Final = "tests/db/queue/test_clocks.py::"

MUTANTS: Final = (
    Mutant(
        "claim-epoch",
        "every claim adds 1 to the epoch",
        SHARDS,
        (("SET state = 'leased', epoch = s.epoch + 1, worker", "SET state = 'leased', epoch = s.epoch, worker"),),
        (f"{_SHARDS_TEST}test_a_claim_gives_a_shard_to_one_worker_once",),
    ),
    Mutant(
        "claim-next-lock",
        "a shard is locked before it is taken: by turn",
        SHARDS,
        (
            (
                "c.shard_id LIMIT :limit\n    FOR UPDATE OF s SKIP LOCKED\n",
                "c.shard_id LIMIT :limit\n",
            ),
        ),
        (f"{_SHARDS_TEST}test_polling_workers_share_the_shards_and_take_none_twice",),
    ),
    Mutant(
        "claim-limit",
        "a claim takes no more than it asked for",
        SHARDS,
        (("c.shard_id LIMIT :limit\n    FOR UPDATE OF s SKIP LOCKED\n", "c.shard_id\n    FOR UPDATE OF s SKIP LOCKED\n"),),
        (f"{_SHARDS_TEST}test_claims_never_exceed_their_limit_whatever_the_plan",),
    ),
    Mutant(
        "newcomers-only",
        "a slot that is kept for newcomers goes to no tenant of whom something is in work",
        TURNS,
        (("(NOT :only_newcomers OR tenant_id NOT IN (SELECT tenant_id FROM busy))", "(NOT :only_newcomers OR true)"),),
        ("tests/db/queue/test_turns.py::test_a_claim_of_newcomers_only_passes_over_tenants_of_whom_something_is_in_work",),
    ),
    Mutant(
        "takeover-live-lease",
        "a lease that has not run out is not taken over: by turn",
        SHARDS,
        (
            (
                "WHERE s.state = 'leased' AND s.lease_expires_at <= now() - make_interval(secs => :takeover)",
                "WHERE s.state = 'leased' AND s.lease_expires_at <= now() + make_interval(mins => 5, secs => :takeover)",
            ),
        ),
        (f"{_SHARDS_TEST}test_an_overdue_lease_is_taken_over_where_there_is_no_reconciler_and_counts_as_a_crash",),
    ),
    Mutant(
        "takeover-counts",
        "a lease that is taken over counts as a crash",
        SHARDS,
        (
            (
                "crash_attempts = s.crash_attempts + CASE WHEN s.state = 'leased' THEN 1 ELSE 0 END",
                "crash_attempts = s.crash_attempts",
            ),
        ),
        (f"{_SHARDS_TEST}test_an_overdue_lease_is_taken_over_where_there_is_no_reconciler_and_counts_as_a_crash",),
    ),
    Mutant(
        "suspect-alone",
        "a worker that holds a suspect gets nothing else",
        SHARDS,
        (("return None if held.suspect else held.shards == 0", "return held.shards == 0"),),
        (f"{_SHARDS_TEST}test_a_suspect_runs_alone_in_its_worker",),
    ),
    Mutant(
        "suspect-idle-turn",
        "a suspect goes to a worker that holds nothing: by turn",
        TURNS,
        (("CASE WHEN :idle THEN now() ELSE now() - make_interval(secs => :company) END", "now()"),),
        (f"{_SHARDS_TEST}test_a_suspect_runs_alone_in_its_worker",),
    ),
    Mutant(
        "claims-in-turn",
        "claims of one worker wait for each other",
        SHARDS,
        (("pg_advisory_xact_lock(hashtextextended(:worker, 0))", "hashtextextended(:worker, 0)"),),
        (f"{_SHARDS_TEST}test_threads_of_one_worker_that_claim_at_once_leave_a_suspect_alone",),
    ),
    Mutant(
        "start-in-the-name",
        "a process that starts again under its host and pid is another one",
        "db/process_names.py",
        (('return f"{socket.gethostname()}:{pid}:{start}"', 'return f"{socket.gethostname()}:{pid}"'),),
        (f"{_SHARDS_TEST}test_a_worker_that_starts_again_under_its_host_and_pid_inherits_no_lease",),
    ),
    Mutant(
        "names-whole",
        "what is asked of a worker is told to no other of its host and pid",
        "db/operators/fleet.py",
        (("SET asked = :asked WHERE worker = ANY(:workers)", "SET asked = :asked WHERE worker = ANY(:workers) OR true"),),
        ("tests/db/operators/test_fleet.py::test_two_processes_of_one_host_and_pid_are_told_apart",),
    ),
    Mutant(
        "hung-leader",
        "a leader that gives no sign of life is replaced",
        LEADER,
        (("beat_at <= clock_timestamp() - make_interval(secs => :lead)\n", "false\n"),),
        (f"{_LEADER_TEST}test_a_leader_that_gives_no_sign_of_life_is_replaced_and_steps_down_when_it_wakes",),
    ),
    Mutant(
        "live-leader",
        "a leader that beats is left alone",
        LEADER,
        (("OR beat_at <= clock_timestamp() - make_interval(secs => :lead)\n", "OR true\n"),),
        (f"{_LEADER_TEST}test_one_leads_and_the_next_takes_over_as_soon_as_it_lets_go",),
    ),
    Mutant(
        "dead-leader",
        "a leader whose connections are gone is replaced at once",
        LEADER,
        (("OR NOT EXISTS (SELECT FROM pg_stat_activity", "OR false AND NOT EXISTS (SELECT FROM pg_stat_activity"),),
        (f"{_LEADER_TEST}test_a_leader_whose_connections_are_all_gone_is_replaced_at_once",),
    ),
    Mutant(
        "leader-fenced",
        "nothing begins in a term that is over",
        LEADER,
        (("            raise LeadLost\n", "            pass\n"),),
        (f"{_LEADER_TEST}test_what_begins_after_another_took_the_lead_is_refused",),
    ),
    Mutant(
        "leader-waited-for",
        "a new term begins after what the old one had under way",
        LEADER,
        (("            conn.execute(_WAIT_FOR_GUARDED)\n", ""),),
        (f"{_LEADER_TEST}test_nothing_of_an_old_term_is_committed_in_a_new_one",),
    ),
    Mutant(
        "leader-sessions-ended",
        "what a stopped leader had under way is undone",
        LEADER,
        (("FILTER (WHERE pg_terminate_backend(pid, 2000))", "FILTER (WHERE pid = 0)"),),
        (f"{_LEADER_TEST}test_what_a_stopped_leader_had_under_way_is_undone",),
    ),
    Mutant(
        "leader-loop",
        "a dispatcher whose loop hangs ends",
        LEADER,
        (("        if self._beats_since_loop > STALL_BEATS:\n", "        if False:\n"),),
        (f"{_LEADER_TEST}test_a_loop_that_hangs_ends_its_process_and_one_that_works_long_does_not",),
    ),
    Mutant(
        "stopped-part",
        "a part that was stopped by a signal is started again",
        "api/local/processes/supervisor.py",
        (("return now - watched.seen_going >= STOPPED_SECONDS", "return False"),),
        (
            "tests/unit/api/local/processes/test_supervisor.py::"
            "test_a_part_that_was_stopped_is_killed_and_started_again_and_one_that_goes_on_in_time_is_not",
        ),
    ),
    Mutant(
        "leader-guards-all",
        "what only a leader may do asks whether it still leads",
        "workers/dispatch/dispatcher.py",
        (("        except LeadLost:\n            raise\n        except Exception as error:", "        except Exception as error:"),),
        ("tests/workers/dispatch/test_dispatcher.py::test_a_round_ends_where_another_dispatcher_leads",),
    ),
    Mutant(
        "deadline-turn",
        "past its deadline nothing is offered or claimed: by turn",
        TURNS,
        (("                      AND (deadline IS NULL OR deadline > now())\n", ""),),
        (f"{_SHARDS_TEST}test_a_shard_put_off_or_past_its_deadline_is_not_claimed",),
    ),
    Mutant(
        "put-off-turn",
        "what was put off is not offered or claimed before its time: by turn",
        TURNS,
        (("CAST('epoch' AS timestamptz), now()),", "CAST('epoch' AS timestamptz), CAST('infinity' AS timestamptz)),"),),
        (f"{_SHARDS_TEST}test_a_shard_put_off_or_past_its_deadline_is_not_claimed",),
    ),
    Mutant(
        "cancelled-turn",
        "shards of a job that is not in progress are not offered or claimed",
        TURNS,
        (
            (
                "j.tenant_id = active.tenant_id AND j.state = 'in_progress' AND j.paused_at IS NULL\n",
                "j.tenant_id = active.tenant_id\n",
            ),
        ),
        ("tests/db/queue/test_dispatch.py::test_shards_of_a_cancelled_job_are_not_offered",),
    ),
    Mutant(
        "shortest-first",
        "a small job of a tenant passes its large one",
        TURNS,
        (
            ("ORDER BY head.priority DESC, head.turn_at, head.job_id,", "ORDER BY head.priority DESC, head.job_id,"),
            ("ORDER BY j.priority DESC, j.turn_at, j.job_id,", "ORDER BY j.priority DESC, j.job_id,"),
        ),
        ("tests/db/queue/test_turns.py::test_within_a_tenant_priority_goes_before_the_shortest_job_which_goes_before_age",),
    ),
    Mutant(
        "claim-clock",
        "a lease begins by the database's clock",
        SHARDS,
        (
            (
                "lease_expires_at = clock_timestamp() + make_interval(secs => :lease),",
                "lease_expires_at = to_timestamp(:client) + make_interval(secs => :lease),",
            ),
            (
                '"lease": lease_seconds, "in_company": in_company}',
                '"lease": lease_seconds, "in_company": in_company, "client": __import__("time").time()}',
            ),
        ),
        (f"{_CLOCKS_TEST}test_a_lease_is_as_long_as_the_database_says",),
    ),
    Mutant(
        "renew-clock",
        "a lease is renewed by the database's clock",
        SHARDS,
        (
            (
                "SET lease_expires_at = clock_timestamp() + make_interval(secs => :lease) FROM mine",
                "SET lease_expires_at = to_timestamp(:client) + make_interval(secs => :lease) FROM mine",
            ),
            ('"lease": lease_seconds}\n    with store', '"lease": lease_seconds, "client": __import__("time").time()}\n    with store'),
        ),
        (f"{_CLOCKS_TEST}test_a_lease_is_as_long_as_the_database_says",),
    ),
    Mutant(
        "renew-epoch",
        "a heartbeat renews its own epoch only",
        SHARDS,
        (("JOIN shards s ON s.shard_id = lease.shard_id AND s.epoch = lease.epoch\n", "JOIN shards s ON s.shard_id = lease.shard_id\n"),),
        (f"{_SHARDS_TEST}test_a_zombie_cannot_give_back_or_open_the_shard_of_its_successor",),
    ),
    Mutant(
        "renew-expiry",
        "a lease that has run out is not renewed",
        SHARDS,
        (("WHERE s.state = 'leased' AND s.lease_expires_at > clock_timestamp()\n", "WHERE s.state = 'leased'\n"),),
        (f"{_SHARDS_TEST}test_a_heartbeat_tells_held_lost_and_cancelled_apart",),
    ),
    Mutant(
        "release-epoch",
        "only the holder of the epoch gives a shard back",
        SHARDS,
        (("row.epoch != lease.epoch or not row.unexpired", "not row.unexpired"),),
        (f"{_SHARDS_TEST}test_a_zombie_cannot_give_back_or_open_the_shard_of_its_successor",),
    ),
    Mutant(
        "release-expiry",
        "a lease that has run out gives nothing back",
        SHARDS,
        (("row.epoch != lease.epoch or not row.unexpired", "row.epoch != lease.epoch"),),
        (f"{_SHARDS_TEST}test_a_lost_lease_opens_nothing_and_leaves_no_trace_of_a_read",),
    ),
    Mutant(
        "lease-policy-epoch",
        "row-level security shows a worker its epoch's shard only",
        "db/migrations/sql/0001_access.sql",
        (("      AND epoch = nullif(current_setting('textmill.epoch', true), '')::integer\n", ""),),
        (f"{_SHARDS_TEST}test_a_worker_without_a_lease_reads_nothing",),
    ),
    Mutant(
        "lease-policy-expiry",
        "row-level security shows a worker nothing once its lease has run out",
        "db/migrations/sql/0001_access.sql",
        (("      AND lease_expires_at > now();", "      ;"),),
        (f"{_SHARDS_TEST}test_a_worker_without_a_lease_reads_nothing",),
    ),
)
