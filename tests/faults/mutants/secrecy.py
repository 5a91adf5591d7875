"""What opens where, and what is on record first."""

from typing import Final

from tests.faults.mutants.mutant import Mutant

SEALING: Final = "db/sealing/cells.py"
ON_RECORD: Final = "db/migrations/sql/0024_on_record.sql"
_SEALING_TEST: Final = "tests/unit/db/sealing/test_cells.py::"
_ELSEWHERE: Final = f"{_SEALING_TEST}test_a_value_opens_nowhere_else"
_REFUSALS: Final = "tests/attacks/test_refusals.py::"
_LOCKED: Final = "tests/attacks/test_locked_record.py::"
_FORMAT: Final = f"{_SEALING_TEST}test_what_was_sealed_once_opens_for_ever"


def _unbound(id_: str, guard: str, line: str, test: str = _ELSEWHERE) -> Mutant:
    return Mutant(f"aad-{id_}", f"a sealed value is bound to its {guard}", SEALING, ((f"                {line},\n", ""),), (test,))


MUTANTS: Final = (
    Mutant(
        "kept-before-commit",
        "what a process keeps of a transaction was committed, with its event",
        "db/recent.py",
        (("conn.info[_AFTER_COMMIT].append(lambda: self.put(key, value))", "self.put(key, value)"),),
        (
            "tests/db/sealing/test_keys.py::test_a_key_whose_event_was_rolled_back_is_not_in_memory",
            "tests/db/jobs/test_shard_counts.py::test_counts_of_a_transaction_that_rolled_back_are_not_kept",
        ),
    ),
    Mutant(
        "kept-after-rollback",
        "a transaction that was rolled back without an error has not committed",
        "db/connect.py",
        (("committed = running.is_active", "committed = True"),),
        ("tests/db/sealing/test_keys.py::test_a_key_whose_event_was_rolled_back_is_not_in_memory",),
    ),
    _unbound("tenant", "tenant", "owner.tenant_id.bytes"),
    _unbound("kind", "owner's kind", "owner.kind.encode()"),
    _unbound("owner", "owner", "owner.owner_id.bytes"),
    _unbound("key", "key", "key_id.bytes", _FORMAT),  # which the header names too: alone, this changes the format and opens nothing
    _unbound("key-epoch", "key's epoch", 'key_epoch.to_bytes(4, "big")'),
    Mutant(
        "aad-column",
        "a sealed value is bound to its column",
        SEALING,
        (
            (
                "head = self._heads[column] = self._bound + _counted(column.encode())",
                'head = self._heads[column] = self._bound + _counted(b"")',
            ),
        ),
        (_ELSEWHERE,),
    ),
    Mutant(
        "aad-row",
        "a sealed value is bound to its row",
        SEALING,
        (('return self._head(column) + row.to_bytes(8, "big")', 'return self._head(column) + (0).to_bytes(8, "big")'),),
        (_ELSEWHERE,),
    ),
    Mutant(
        "aad-borders",
        "no two cells share an encoding",
        SEALING,
        (('return len(part).to_bytes(4, "big") + part', "return part"),),
        (f"{_SEALING_TEST}test_a_border_moved_through_all_fields_makes_another_cell",),
    ),
    Mutant(
        "commitment",
        "a ciphertext opens under one key only",
        SEALING,
        (("if not compare_digest(sealed[_PREFIX_SIZE + _SALT_SIZE : _HEADER_SIZE], commitment):", "if False:"),),
        (f"{_SEALING_TEST}test_a_value_with_any_byte_changed_does_not_open",),
    ),
    Mutant(
        "audit-event",
        "rows are read on record",
        "db/queue/shards.py",
        (
            (
                '        event_id = record_work(\n            conn, store, lease, "rows.read", object_kind="file", object_id=lease.file_id,'
                " first_idx=lease.first_idx, end_idx=lease.end_idx\n        )\n",
                "",
            ),
            (
                "        record_digest(conn, lease.tenant_id, event_id, sealed_values, rows=idxs)\n",
                "",
            ),
        ),
        ("tests/db/queue/test_shards.py::test_opening_is_on_record_with_its_digest",),
    ),
    *(
        Mutant(id_, guard, file, ((line, instead),), (f"tests/{test}",))
        for id_, guard, file, line, instead, test in (
            (
                "taken-body",
                "a body that was taken is damage, on record",
                "db/queue/shards.py",
                'sealed or b"" for _, _, defect, sealed, _ in found]',
                "sealed for _, _, defect, sealed, _ in found]",
                "attacks/test_damaged_values.py::test_what_does_not_open_for_a_worker_fails_by_its_code_and_costs_the_shard_nothing",
            ),
            (
                "taken-answer",
                "a failure beside an answer, or without a code of ours, is damage",
                "db/jobs/results.py",
                "    elif sealed is not None or not is_failure(code):",
                "    elif False:",
                "attacks/test_damaged_values.py::test_an_answer_that_is_said_to_have_failed_is_damage",
            ),
            (
                "taken-id",
                "a row of a batch without its id is damage",
                "db/jobs/results.py",
                "    if has_id or sealed_id is not None or line is None:",
                "    if sealed_id is not None:",
                "attacks/test_damaged_values.py::test_a_value_that_was_taken_is_damage_and_not_a_fault_of_the_row_or_the_model",
            ),
            (
                "taken-row",
                "a row that was taken ends no reading",
                "db/jobs/results.py",
                "    LEFT JOIN LATERAL",
                "    JOIN LATERAL",
                "attacks/test_damaged_values.py::test_a_row_that_was_taken_hides_no_answer_behind_it",
            ),
            (
                "columns-go-too",
                "a table's other columns go with its texts",
                "db/files/files.py",
                '{"body_sealed": None, "columns_sealed": None}',
                '{"body_sealed": None}',
                "db/files/test_columns.py::test_columns_go_with_the_texts_also_where_ids_stay_for_the_outputs",
            ),
            (
                "rows-then-file",
                "a deletion during a read of a file's rows is no damage",
                "db/files/rows.py",
                "        if not is_readable(conn, actor.tenant_id, file.file_id):",
                "        readable = is_readable(conn, actor.tenant_id, file.file_id)\n"
                '        found = list(conn.execute(_PAGE, {**key, "first": first, "end": end, "bytes": PAGE_BYTES}))\n'
                "        if not readable:",
                "db/files/test_rows.py::test_a_file_deleted_while_a_page_of_it_is_read_is_not_on_record_as_damaged",
            ),
            (
                "results-then-job",
                "a deletion during a read of a job's results is no damage",
                "db/jobs/results.py",
                "        if job is not None and job.retry_count == reading.run and not _is_deleted(job, reading.which):\n",
                "        found = _fetch_rows(conn, actor, reading, limit, after_idx)\n"
                "        if job is not None and job.retry_count == reading.run and not _is_deleted(job, reading.which):\n",
                "db/jobs/test_results.py::test_results_deleted_while_a_page_of_them_is_read_are_whole_and_not_on_record_as_damaged",
            ),
            (
                "whole-page",
                "what is deleted while it is listed leaves no page empty with more behind it",
                "db/jobs/file_lists.py",
                "        if len(listed) == len(page):",
                "        if True:",
                "db/jobs/test_file_lists.py::test_what_is_deleted_while_it_is_listed_makes_no_empty_page_with_more_behind_it",
            ),
            (
                "moments",
                "a moment that Python cannot say costs its own place",
                "db/connect.py",
                '        event.listen(self.engine, "connect", lambda driver, _: load_moments(driver))\n',
                "",
                "attacks/test_plain_values.py::test_a_moment_that_python_cannot_say_costs_its_own_place",
            ),
            (
                "plain-errors",
                "errors of a job that were altered cost that job alone",
                "db/jobs/clear_json.py",
                "        return None, False\n",
                "        return stored, True\n",
                "attacks/test_plain_values.py::test_errors_and_metrics_of_a_job_that_were_altered_cost_that_job_alone",
            ),
        )
    ),
    Mutant(
        "audit-first",
        "rows are opened after their record has committed",
        "db/queue/shards.py",
        (
            (
                "        job, file = _openers(conn, store, lease)\n",
                "        job, file = _openers(conn, store, lease)\n        job.open('job_specs.spec', lease.job_id, spec_sealed)\n",
            ),
        ),
        ("tests/attacks/test_row_level_security.py::test_nothing_is_opened_before_its_record_has_committed",),
    ),
    *(
        Mutant(f"on-record-{id_}", guard, ON_RECORD, ((line, instead),), (f"tests/attacks/test_on_record.py::{test}",))
        for id_, guard, line, instead, test in (
            (
                "api",
                "the API sees nothing sealed without an event",
                "TO textmill_api USING (EXISTS (SELECT FROM own_events))'",
                "TO textmill_api USING (true)'",
                "test_the_api_sees_nothing_sealed_without_an_event_and_all_of_its_tenant_with_one",
            ),
            (
                "results",
                "results are opened by an event of their job",
                "job_id IN (SELECT e.job_id FROM own_events e WHERE e.job_id IS NOT NULL)",
                "EXISTS (SELECT FROM own_events)",
                "test_texts_and_results_are_opened_by_an_event_that_names_their_file_or_job",
            ),
            (
                "rows",
                "texts are opened by an event of their file or its job",
                "    OR body_sealed IS NULL AND file_id IN (SELECT f.file_id FROM files f WHERE f.state = 'deleted'));",
                "    OR EXISTS (SELECT FROM own_events));",
                "test_texts_and_results_are_opened_by_an_event_that_names_their_file_or_job",
            ),
            (
                "erased",
                "of a file that was deleted only ids are seen",
                "OR body_sealed IS NULL AND file_id IN",
                "OR file_id IN",
                "test_to_say_that_files_are_deleted_opens_none_of_their_texts",
            ),
            (
                "moved",
                "the API moves no job to another file",
                "attname NOT IN ('tenant_id', 'job_id', 'file_id')",
                "attname NOT IN ('tenant_id', 'job_id')",
                "test_a_job_that_an_event_names_is_moved_to_no_other_file",
            ),
            (
                "worker",
                "a worker sees nothing sealed without an event",
                "USING (EXISTS (SELECT FROM own_events e WHERE e.job_id = (SELECT l.job_id FROM leased_shard l)))'",
                "USING (true)'",
                "test_a_worker_sees_nothing_sealed_of_its_shard_without_an_event_and_its_range_with_one",
            ),
            (
                "job",
                "a worker's event is of the job that it holds",
                " e WHERE e.job_id = (SELECT l.job_id FROM leased_shard l)",
                "",
                "test_an_event_of_another_job_than_the_shards_opens_nothing",
            ),
            (
                "moment",
                "an event from a dump opens nothing",
                "::uuid AND at = now()\n      AND xact",
                "::uuid\n      AND xact",
                "test_an_event_of_the_same_number_in_a_database_from_before_opens_nothing",
            ),
            (
                "transaction",
                "an event opens its own transaction",
                "AND xact = pg_current_xact_id_if_assigned()::text::bigint AND outcome",
                "AND outcome",
                "test_an_event_of_another_transaction_that_began_in_the_same_moment_opens_nothing",
            ),
            (
                "denied",
                "what was refused opens nothing",
                " AND outcome = 'allowed'",
                "",
                "test_what_was_refused_opens_nothing",
            ),
            *(
                (
                    f"forged-{component}",
                    f"no event is written for another transaction: {component}",
                    f"component = '{component}' AND at = now() AND xact = pg_current_xact_id()::text::bigint",
                    f"component = '{component}' AND at = now()",
                    "test_nobody_writes_an_event_for_another_transaction",
                )
                for component in ("api", "worker", "dispatcher")
            ),
        )
    ),
    Mutant(
        "audit-page-first",
        "a page of results is read on record",
        "db/jobs/results.py",
        (
            (
                '        event_id = record_act(\n            conn, store, actor, reading.action, object_kind="job", object_id=job_id,'
                " first_idx=after_idx + 1, job_id=job_id\n        )\n",
                "",
            ),
            ("            record_digest(conn, actor.tenant_id, event_id, sealed, rows=[row[0] for row in found])\n", ""),
        ),
        ("tests/db/queue/test_results.py::test_each_page_of_results_is_on_record_before_it_is_opened",),
    ),
    Mutant(
        "authority-mac",
        "an API key allows what it was made with",
        "db/operators/api_keys.py",
        (("return grant if authority.vouches_for(grant.parts(), row.mac) else None", "return grant"),),
        ("tests/attacks/test_authority.py::test_a_key_whose_row_was_altered_is_refused_on_record_and_shown_as_damaged",),
    ),
    Mutant(
        "authority-hash",
        "an API key is looked up by a keyed hash",
        "db/sealing/authority.py",
        (("return hmac.digest(self._hash_key, digest, hashlib.sha256)", "return digest"),),
        ("tests/attacks/test_authority.py::test_the_hash_of_a_secret_of_ones_own_is_found_by_nobody",),
    ),
    Mutant(
        "key-ended",
        "a key that was revoked allows nothing that was begun with it",
        "db/audit/events.py",
        (("({_EVENT} WHERE {KEY_IS_GOOD} RETURNING", "({_EVENT} RETURNING"),),
        ("tests/attacks/test_revocation.py::test_results_are_read_page_by_page_and_no_further_than_the_key_goes",),
    ),
    Mutant(
        "authority-revoked",
        "a revocation that is on record is not taken back",
        "db/operators/api_keys.py",
        (("grant.revoked_at is not None or _revocation_is_on_record(store, grant)", "grant.revoked_at is not None"),),
        ("tests/attacks/test_authority.py::test_a_revocation_cannot_be_taken_back",),
    ),
    Mutant(
        "refusal-recorded",
        "a refusal is on record, past its rollback",
        "db/connect.py",
        (("                put_on_record()\n", "                pass\n"),),
        (f"{_REFUSALS}test_a_refusal_is_on_record_with_its_reason",),
    ),
    Mutant(
        "refusal-once",
        "and once, however many transactions it leaves",
        "db/connect.py",
        (("                refusal.put_on_record = _is_on_record  # where it leaves another transaction, too\n", ""),),
        ("tests/db/audit/test_events.py::test_a_refusal_that_leaves_two_transactions_is_on_record_once",),
    ),
    Mutant(
        "refusal-of-an-act",
        "what is refused in the course of an act is on record",
        "db/audit/acts.py",
        (
            (
                "    with store.transaction(tenant=actor.tenant_id) as conn, refusing(store, actor, action, **about):\n",
                "    with store.transaction(tenant=actor.tenant_id) as conn:\n",
            ),
        ),
        (f"{_REFUSALS}test_a_refusal_is_on_record_with_its_reason",),
    ),
    Mutant(
        "refusal-code",
        "a refusal on record says why",
        "db/audit/acts.py",
        (('{**about, "code": refusal.code}', "{**about}"),),
        (f"{_REFUSALS}test_a_refusal_is_on_record_with_its_reason",),
    ),
    Mutant(
        "refusal-object",
        "a refusal on record names what it is of",
        "db/jobs/creating.py",
        (('    with refusing(store, actor, "job.create", **about_job(job_id)):\n', "    if True:\n"),),
        (f"{_REFUSALS}test_a_refusal_is_on_record_with_its_reason",),
    ),
    Mutant(
        "refusal-of-a-page",
        "that results have changed beneath a reading is on record",
        "db/jobs/results.py",
        (("raise denied(_run_again(), store, actor, reading.action, **about_job(job_id))", "raise _run_again()"),),
        (f"{_REFUSALS}test_a_refusal_is_on_record_with_its_reason",),
    ),
    Mutant(
        "list-named",
        "a list is found by what it showed",
        "db/audit/reading.py",
        (("digests.object_ids.contains([object_id])", "digests.event_id == object_id"),),
        ("tests/db/audit/test_lists_on_record.py::test_a_list_names_what_it_showed_and_is_found_by_each_of_it",),
    ),
    Mutant(
        "waits-together",
        "what one transaction of a request has waited another does not",
        "db/connect.py",
        (("max(BRIEF_MS, round((self._until - self._clock()) * 1000))", "round(self._seconds * 1000)"),),
        (f"{_LOCKED}test_what_one_transaction_of_a_request_has_waited_another_does_not",),
    ),
    Mutant(
        "waits-of-a-request",
        "a request waits for a locked record within its time",
        "api/requests/front.py",
        (("return replace(front, store=front.store.within(request.state.patience))", "return front"),),
        (f"{_LOCKED}test_so_does_the_first_request_of_a_key_which_asks_the_record_twice",),
    ),
    Mutant(
        "waits-of-an-abort",
        "an upload that met a locked record does not wait again to remove what it left",
        "api/streams/uploads.py",
        (("        self._writer.abort()\n", "        self._store.renew_patience()\n        self._writer.abort()\n"),),
        (f"{_LOCKED}test_an_upload_that_meets_a_locked_record_does_not_wait_again_to_remove_what_it_left",),
    ),
    Mutant(
        "waits-of-a-part",
        "each part of a stream has patience of its own",
        "db/connect.py",
        (("            self._patience.renew()\n", "            pass\n"),),
        (f"{_LOCKED}test_each_part_of_a_stream_has_patience_of_its_own",),
    ),
    Mutant(
        "waits-after-an-act",
        "what an act took is not taken from the look at what it did",
        "db/jobs/jobs.py",
        (("    store.renew_patience()\n", ""),),
        (f"{_LOCKED}test_what_a_retry_took_is_not_taken_from_the_look_at_its_job",),
    ),
    Mutant(
        "waits-of-a-mark",
        "each page of marking doubles has patience of its own",
        "db/files/rows.py",
        (("            self._store.renew_patience()\n", ""),),
        (f"{_LOCKED}test_each_page_of_marking_doubles_has_patience_of_its_own",),
    ),
    Mutant(
        "waits-of-a-body",
        "a body that comes slowly leaves its request all its patience",
        "api/requests/json_body.py",
        (("        request.state.patience.renew()", "        pass"),),
        ("tests/unit/api/requests/test_json_body.py::test_a_body_that_comes_slowly_leaves_its_request_all_its_patience",),
    ),
    Mutant(
        "audit-unsealed",
        "every event waits to be sealed",
        "db/audit/events.py",
        (('text(f"WITH event AS ({_EVENT}) {_UNSEALED} VALUES (:tenant_id, :event_id)")', "text(_EVENT)"),),
        ("tests/db/audit/test_events.py::test_every_event_waits_to_be_sealed_once",),
    ),
    Mutant(
        "damage-told",
        "a value that does not open costs its own row alone",
        "db/audit/damage.py",
        (("            self.note(opener, column, row, sealed)\n            return None\n", "            raise\n"),),
        ("tests/attacks/test_damaged_values.py::test_a_file_name_and_metadata_that_do_not_open_hide_nothing_beside_them",),
    ),
    Mutant(
        "damage-recorded",
        "that a value does not open is on record",
        "db/audit/damage.py",
        (("if error is None and self._damaged and not self._on_record:", "if False:"),),
        ("tests/attacks/test_damaged_values.py::test_an_answer_or_an_id_that_does_not_open_costs_an_output_that_row_alone",),
    ),
    Mutant(
        "damage-of-a-key",
        "a key that was altered costs what it opens alone",
        "db/sealing/keys.py",
        (("        except SealError:\n            return BrokenKey(owner)\n", ""),),
        ("tests/attacks/test_damaged_values.py::test_a_key_that_was_altered_or_taken_costs_what_it_opens_and_no_more",),
    ),
    Mutant(
        "damage-of-a-spec",
        "a job whose spec does not open is not tried again and again",
        "db/queue/shards.py",
        (("unreadable = spec is None or (table is None", "unreadable = (table is None"),),
        ("tests/attacks/test_altered_specs.py::test_a_spec_that_was_altered_under_a_running_job_answers_nothing_more",),
    ),
    Mutant(
        "damage-of-a-label-set",
        "a label set that does not open costs the rows that name it alone",
        "workers/shard/names.py",
        (
            (
                "            body = label_sets.get_label_set_for_worker(self._store, self._lease, name, pinned)\n"
                "        except SealError as error:\n            return error.code\n",
                "            body = label_sets.get_label_set_for_worker(self._store, self._lease, name, pinned)\n        finally:\n"
                "            pass\n",
            ),
        ),
        ("tests/attacks/test_damaged_values.py::test_what_does_not_open_for_a_worker_fails_by_its_code_and_costs_the_shard_nothing",),
    ),
    Mutant(
        "labels-of-a-tenant",
        "how fast labels are made tells nothing of another tenant",
        "workers/models/zero_shot.py",
        (("(tenant, _digest(labels, templates))", "(None, _digest(labels, templates))"),),
        ("tests/unit/workers/models/test_zero_shot.py::test_a_tenants_labels_are_made_anew_though_another_has_the_same",),
    ),
    Mutant(
        "head-digest-keyed",
        "a head's digest tells nothing of another tenant",
        "db/catalogue/heads.py",
        (('sealer.hmac("models.version", weights).hex()', "__import__('hashlib').sha256(weights).hexdigest()"),),
        ("tests/db/catalogue/test_heads.py::test_equal_heads_of_two_tenants_show_no_equal_digest",),
    ),
    Mutant(
        "scope-names",
        "names and metadata are shown to who may read",
        "db/actors.py",
        (('return "read" in self.scopes', "return True"),),
        ("tests/api/requests/test_auth.py::test_what_people_wrote_is_shown_to_keys_that_may_read_and_to_no_others",),
    ),
)
