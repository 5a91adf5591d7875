"""Guards of versions: a job is answered by what it began with."""

from typing import Final

from tests.faults.mutants.mutant import Mutant

MUTANTS: Final = (
    Mutant(
        "schema-fit-told",
        "a process tells Prometheus that it does not fit the database",
        "workers/exporter.py",
        (("        self._fits.set_function(lambda: float(schema.fits))\n", "        pass\n"),),
        ("tests/api/test_errors.py::test_a_schema_that_changes_beneath_the_api_is_told_by_readyz_and_by_every_request",),
    ),
    Mutant(
        "pinned",
        "a job is answered by the head and the label set that it began with",
        "db/catalogue/reading.py",
        (
            (
                "which = (kind.id == pinned.id,) if pinned is not None else (own.number == 1, own.name_hmac == kind.hmac(opener, name))",
                "which = (kind.id == find_versions(conn, kind, lease.tenant_id, sealer, [name])[name].id,)",
            ),
        ),
        ("tests/workers/shard/test_versions.py::test_what_is_made_anew_while_a_job_is_paused_answers_none_of_its_rows",),
    ),
    Mutant(
        "schema-in-each-transaction",
        "no transaction of a program touches a schema that does not serve it",
        "db/connect.py",
        (("            self.schema.ensure(found)\n", ""),),
        (
            "tests/db/server/test_versions.py::test_a_running_process_touches_nothing_of_another_version",
            "tests/api/test_errors.py::test_a_schema_that_changes_beneath_the_api_is_told_by_readyz_and_by_every_request",
        ),
    ),
    Mutant(
        "lead-of-another-schema",
        "a dispatcher whose schema is another leads no longer",
        "db/queue/leader.py",
        (("        except (SQLAlchemyError, AnotherSchema):", "        except SQLAlchemyError:"),),
        ("tests/db/server/test_versions.py::test_who_stands_by_or_leads_lets_go_of_the_lead_where_the_database_is_another",),
    ),
    Mutant(
        "migrations-between-transactions",
        "a migration begins when no transaction of a program is under way",
        "db/server/migrate.py",
        (("conn.execute(text(LOCK))", "pass"),),
        ("tests/db/server/test_migrate.py::test_a_migration_gives_up_where_a_transaction_does_not_end",),
    ),
    Mutant(
        "numbers-once",
        "the number of a deleted version is not given again",
        "db/catalogue/deleting.py",
        (("        keep_numbers(conn, kind, actor.tenant_id, ids)\n", ""),),
        (
            "tests/db/catalogue/test_label_sets.py::test_the_number_of_a_version_that_was_deleted_is_not_given_again",
            "tests/db/catalogue/test_heads.py::test_the_number_of_a_head_that_was_deleted_is_not_given_again",
        ),
    ),
    Mutant(
        "numbers-given-before",
        "the numbers of versions that were deleted before numbers were kept are not given again",
        "db/migrations/sql/0029_numbers.sql",
        (("WHERE deleted_at IS NOT NULL GROUP BY", "WHERE false GROUP BY"),),
        ("tests/db/server/test_migrate.py::test_the_numbers_of_versions_that_were_deleted_before_they_were_kept_are_kept",),
    ),
    Mutant(
        "repeated-by-meaning",
        "a request that nobody named gets no job of other versions",
        "db/jobs/creating.py",
        (("        if twin is not None and not _asks_the_same(conn, store, actor, new, twin):\n", "        if False:\n"),),
        ("tests/api/routes/test_batches.py::test_a_create_whose_names_mean_other_versions_is_sent_again_by_nobody",),
    ),
    Mutant(
        "repeated-beside-others",
        "a label set that a job has nothing to do with makes no other request of it",
        "db/jobs/creating.py",
        (("pins_others=step.other_names is not None", "pins_others=False"),),
        ("tests/api/routes/test_batches.py::test_of_a_file_whose_names_nobody_noted_only_what_the_defaults_name_makes_a_create_another",),
    ),
    Mutant(
        "repeated-as-it-was",
        "what a name meant is asked of the versions that the job began with",
        "db/jobs/pins.py",
        (("return _meant(conn, own, tenant_id, names, among=pinned) == now if pins_others", "return pinned >= now.ids if pins_others"),),
        ("tests/api/routes/test_batches.py::test_of_a_file_whose_names_nobody_noted_only_what_the_defaults_name_makes_a_create_another",),
    ),
    Mutant(
        "last-that-are-there",
        "the last versions of a name are those that are there, not the last numbers",
        "db/catalogue/names.py",
        (("range(1, newest.version + 1) if few", "range(newest.version - KEPT_VERSIONS + 1, newest.version + 1) if True"),),
        ("tests/db/catalogue/test_names.py::test_the_last_versions_that_are_there_may_be_named_whatever_their_numbers",),
    ),
    Mutant(
        "kept-for-jobs",
        "what a running job began with outlives its deletion",
        "db/catalogue/deleting.py",
        (("delete(kind.table).where(*own, ~in_use(kind))", "delete(kind.table).where(*own)"),),
        ("tests/workers/shard/test_versions.py::test_what_is_deleted_while_a_job_is_paused_answers_the_rest_of_it_and_is_erased_then",),
    ),
    Mutant(
        "sealed-number",
        "a version put in the place of another does not open",
        "db/catalogue/reading.py",
        (('if told["version"] != number:', "if False:"),),
        ("tests/workers/shard/test_versions.py::test_a_version_that_somebody_put_in_the_place_of_another_answers_nothing",),
    ),
    Mutant(
        "versions-in-turn",
        "two versions that are made at once have two numbers",
        "db/jobs/versions.py",
        (("SELECT pg_advisory_xact_lock(hashtextextended('catalogue", "SELECT (hashtextextended('catalogue"),),
        ("tests/db/catalogue/test_heads.py::test_trainings_of_one_name_at_once_make_a_version_each",),
    ),
    Mutant(
        "names-noted",
        "what a file's rows name is noted while it is uploaded",
        "api/streams/uploads.py",
        (("        self._noted.note(batch)\n", ""),),
        ("tests/api/routes/test_versions.py::test_a_batch_whose_rows_name_sets_and_heads_is_answered_by_those_it_began_with",),
    ),
    Mutant(
        "sessions-of-ones-own",
        "a pooler that shares sessions is refused",
        "db/server/fitness.py",
        (("    if _shares_sessions(conn):", "    if False:"),),
        ("tests/db/server/test_fitness.py::test_a_pooler_that_shares_sessions_is_refused_by_whatever_comes_through_it",),
    ),
    Mutant(
        "sessions-in-turn",
        "a pooler is found out whichever session it gives next",
        "db/server/fitness.py",
        (("            if before == taken or before != _process(conn):", "            if before == taken:"),),
        ("tests/db/server/test_fitness.py::test_a_pooler_is_found_out_whichever_session_it_gives_next",),
    ),
    Mutant(
        "old-server",
        "a server that is too old is refused",
        "db/server/fitness.py",
        (("// 10_000) < OLDEST:", "// 10_000) < 1:"),),
        ("tests/db/server/test_fitness.py::test_an_older_server_is_refused_in_a_sentence",),
    ),
    Mutant(
        "session-settings",
        "a session has its time limits whatever a pooler leaves out",
        "db/connect.py",
        (('        event.listen(self.engine, "connect", lambda driver, _: set_in_session(driver, session))\n', ""),),
        ("tests/db/test_connect.py::test_a_component_logs_in_as_itself_with_limits_that_hold",),
    ),
)
