"""What workers and the dispatcher hold to by themselves."""

from typing import Final

from tests.faults.mutants.mutant import Mutant

LEASE: Final = "workers/claims/lease.py"
_LEASE_TEST: Final = "tests/unit/workers/claims/test_lease.py::"
GPUS: Final = "workers/machine/gpus.py"
_BATCHER_TEST: Final = "tests/unit/workers/batches/test_batcher.py::"
_GPUS_TEST: Final = "tests/workers/machine/test_gpus.py::"
_TASK_TEST: Final = "tests/workers/shard/test_life.py::"

MUTANTS: Final = (
    Mutant(
        "self-fence",
        "a lease that cannot be renewed ends itself",
        LEASE,
        (("if not super().is_set() and self._clock() >= self._fence_at:", "if False:"),),
        (f"{_LEASE_TEST}test_a_keeper_that_hangs_does_not_keep_a_lease_alive",),
    ),
    Mutant(
        "fence-margin",
        "it ends before the store gives it away",
        LEASE,
        (
            (
                "held = Held(lease, claimed_at + self._lease_seconds - self._margin_seconds, self._clock)",
                "held = Held(lease, claimed_at + self._lease_seconds, self._clock)",
            ),
        ),
        (f"{_LEASE_TEST}test_a_lease_that_cannot_be_renewed_ends_itself_before_the_store_gives_it_away",),
    ),
    Mutant(
        "fence-from-the-question",
        "a renewal counts from when it was asked for",
        LEASE,
        (
            (
                "held.renewed(asked_at + self._lease_seconds - self._margin_seconds)",
                "held.renewed(self._clock() + self._lease_seconds - self._margin_seconds)",
            ),
        ),
        (f"{_LEASE_TEST}test_a_renewal_that_took_long_counts_from_when_it_was_asked_for",),
    ),
    Mutant(
        "verdict",
        "what the store says at a heartbeat stops the shard",
        LEASE,
        (("                held.end(verdict)\n", "                pass\n"),),
        (f"{_LEASE_TEST}test_the_stores_verdict_stops_the_shard",),
    ),
    Mutant(
        "stop-before-a-chunk",
        "no chunk is begun in a drain or under a lost lease",
        "workers/shard/life.py",
        ((" and not self._must_let_go(held):", ":"),),
        (
            f"{_TASK_TEST}test_a_drain_writes_what_is_done_and_gives_the_shard_back",
            f"{_TASK_TEST}test_a_training_that_must_be_let_go_is_not_begun",
        ),
    ),
    Mutant(
        "write-again",
        "a write that fails for a moment is tried again",
        "workers/shard/life.py",
        (("if held.is_set() or (attempt >= WRITE_ATTEMPTS - 1 and not passes(error)):", "if True:"),),
        (f"{_TASK_TEST}test_a_write_that_fails_for_a_moment_is_tried_again_and_nothing_is_computed_twice",),
    ),
    Mutant(
        "one-family-of-errors",
        "an error of a bulk statement is tried again as any other",
        "db/bulk.py",
        (("    except psycopg.Error as error:\n", "    except ZeroDivisionError as error:\n"),),
        ("tests/db/test_bulk.py::test_what_the_driver_raises_is_caught_like_any_error_of_the_database",),
    ),
    Mutant(
        "watchdog",
        "a process whose model never comes back ends",
        "workers/host/watchdog.py",
        (("hangs = bool(signs) and self._clock() - min(signs) > self._hang_seconds", "hangs = False"),),
        ("tests/unit/workers/host/test_watchdog.py::test_a_call_without_a_batch_for_too_long_ends_the_process",),
    ),
    Mutant(
        "watchdog-starved",
        "a model that lets no other thread run ends the process too",
        "workers/host/watchdog.py",
        (("        self._set_timer()\n        on_duty", "        on_duty"),),
        ("tests/workers/host/test_watchdog.py::test_a_call_that_lets_nobody_else_run_ends_the_process_and_what_it_writes_holds_no_values",),
    ),
    Mutant(
        "watchdog-idle",
        "a process that has nothing to do is not taken for one that hangs",
        "workers/host/watchdog.py",
        (("[self._last_sign] if self._calls else []", "[self._last_sign]"),),
        ("tests/unit/workers/host/test_watchdog.py::test_an_idle_worker_does_not_hang",),
    ),
    Mutant(
        "watchdog-lane",
        "a lane that hangs is found while other lanes work",
        "workers/host/watchdog.py",
        (("signs = [*self._batches.values(), *(", "signs = [*("),),
        ("tests/unit/workers/host/test_watchdog.py::test_a_batch_that_hangs_ends_the_process_whatever_the_other_lanes_do",),
    ),
    Mutant(
        "publish-after-commit",
        "a message goes out once its shard is written down as offered",
        "workers/dispatch/dispatcher.py",
        (
            (
                "            picked = dispatch.pick_dispatchable(self._store, room)\n"
                "            if picked:\n                self._broker.publish(picked)\n",
                "            from db.queue.dispatch import _ANY, _PICK, REDISPATCH_SECONDS\n\n"
                "            asked = {'depth': room, 'redispatch': REDISPATCH_SECONDS, **_ANY}\n"
                "            with self._store.transaction() as conn:\n"
                "                picked = [(row.shard_id, row.epoch) for row in conn.execute(_PICK, asked)]\n"
                "                if picked:\n                    self._broker.publish(picked)\n",
            ),
        ),
        ("tests/workers/dispatch/test_dispatcher.py::test_a_message_goes_out_once_its_shard_is_written_down_as_offered",),
    ),
    Mutant(
        "claim-check-shape",
        "a message of another version is dropped",
        "workers/app.py",
        (('if args or kwargs.keys() != {"shard_id", "epoch"}:', 'if args or not kwargs.keys() >= {"shard_id", "epoch"}:'),),
        ("tests/workers/test_app.py::test_anything_else_is_dropped_and_not_quoted",),
    ),
    Mutant(
        "errands",
        "a message that asks for more than a claim is dropped",
        "workers/claims/message_filter.py",
        ((" or any(embed.values()):", ":"),),
        ("tests/unit/workers/claims/test_message_filter.py::test_anything_else_is_not",),
    ),
    Mutant(
        "slot-without-a-thread",
        "a shard whose thread cannot be started is given back with its slot",
        "workers/claims/poller.py",
        (("            give(1)\n            self._give_back(lease)\n", ""),),
        ("tests/workers/claims/test_poller.py::test_a_shard_whose_thread_cannot_be_started_is_given_back_with_its_slot",),
    ),
    Mutant(
        "drain-remembered",
        "a worker registers again with what it was last asked",
        "workers/host/presence.py",
        (("asked_to_drain=self.asked_to_drain,", "asked_to_drain=False,"),),
        ("tests/workers/host/test_presence.py::test_a_worker_that_was_asked_to_drain_still_is_when_its_row_was_removed",),
    ),
    Mutant(
        "poison-alone",
        "a row that fails its batch fails alone",
        "workers/batches/batcher.py",
        (
            (
                '                pieces += self._split(rows, "engine_error")\n',
                "                for _length, _tag, index, call in rows:\n"
                '                    call.settle([index], [FailedRow("engine_error")], BatchShare())\n',
            ),
        ),
        ("tests/unit/workers/batches/test_batcher.py::test_a_poison_row_does_not_fail_the_call_it_shares_a_batch_with",),
    ),
    Mutant(
        "turns-in-the-window",
        "a tenant who comes new does not wait for the rows that are planned",
        "workers/batches/queue.py",
        (("            self._undraw()\n", "            pass\n"),),
        ("tests/unit/workers/batches/test_queue.py::test_who_comes_new_does_not_wait_for_what_was_planned",),
    ),
    Mutant(
        "turn-kept",
        "a row keeps its turn, whoever comes later",
        "workers/batches/queue.py",
        (("max(self._now, self._next.get(flow, 0))", "self._now"),),
        ("tests/unit/workers/batches/test_queue.py::test_every_tenant_gets_its_share_however_the_others_bring_their_rows",),
    ),
    Mutant(
        "smaller-after-oom",
        "batches are smaller after the device was out of memory",
        "workers/batches/batcher.py",
        (("                    self._budget.shrink()\n", "                    pass\n"),),
        ("tests/unit/workers/batches/test_batcher.py::test_batches_are_smaller_after_out_of_memory_and_grow_back",),
    ),
    Mutant(
        "as-many-answers",
        "an engine that answers too few rows answers none",
        "workers/batches/batcher.py",
        (("                if len(answers) != len(rows):\n", "                if False:\n"),),
        ("tests/unit/workers/batches/test_batcher.py::test_too_few_answers_fail_no_neighbour",),
    ),
    Mutant(
        "hidden-gpus",
        "what means nothing in CUDA_VISIBLE_DEVICES hides what stands behind it",
        GPUS,
        (("is None:\n            break", "is None:\n            continue"),),
        (f"{_GPUS_TEST}test_what_cuda_visible_devices_leaves",),
    ),
    Mutant(
        "gpu-of-the-machine",
        "a worker is pinned beside the GPU that a scheduler chose",
        "workers/host/device.py",
        (("if device.is_same(chosen)), None)", "), 0)"),),
        ("tests/workers/host/test_device.py::test_the_gpu_that_a_scheduler_chose_is_the_one_that_is_pinned_to_and_named",),
    ),
    Mutant(
        "gpus-share-a-node",
        "several GPUs of a node share its cores",
        "workers/host/device.py",
        (("part = shared_out(near, whole_cores(allowed, root))[place]", "part = near[place]"),),
        ("tests/workers/host/test_device.py::test_slices_of_one_gpu_share_its_cpus",),
    ),
    Mutant(
        "nested-groups",
        "the lowest limit on the way to the root counts",
        "workers/machine/cgroup.py",
        (("    while group != top:", "    while False:"),),
        ("tests/unit/workers/machine/test_cgroup.py::test_the_lowest_limit_on_the_way_to_the_root_counts",),
    ),
    Mutant(
        "no-restart-cures",
        "systemd does not start again what no restart cures",
        "deploy/systemd/textmill-worker@.service",
        (("RestartPreventExitStatus=2 3 78", "RestartPreventExitStatus=78"),),
        ("tests/deploy/test_systemd_units.py::test_another_key_file_or_another_schema_ends_a_unit",),
    ),
    Mutant(
        "calibration-outlives",
        "what calibration finds outlives a unit's read-only home",
        "deploy/systemd/textmill-worker@.service",
        (("TEXTMILL_CALIBRATION_FOLDER=/var/lib/textmill-calibration ", ""),),
        ("tests/deploy/test_systemd_units.py::test_what_calibration_finds_outlives_a_workers_unit",),
    ),
    Mutant(
        "jobs-share-a-turn",
        "a small job does not wait for all that another of its tenant has in flight",
        "workers/batches/batcher.py",
        ((", lambda call: call.ticket.job)", ")"),),
        (f"{_BATCHER_TEST}test_a_few_rows_of_one_job_do_not_wait_behind_all_that_another_of_the_tenant_has_in_flight",),
    ),
    Mutant(
        "many-jobs-one-share",
        "a tenant gets no more of the lanes for having many jobs",
        "workers/batches/queue.py",
        (("accumulate([jobs * length for length in counted]", "accumulate([length for length in counted]"),),
        ("tests/unit/workers/batches/test_queue.py::test_a_tenant_of_many_jobs_gets_no_more_than_one_of_one_job",),
    ),
)
