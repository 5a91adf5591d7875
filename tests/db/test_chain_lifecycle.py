"""Chains through any story: the store goes the way of the pure rules, and no row is ever further in a step than in those before it."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from db.actors import Actor
from db.connect import Store
from db.errors import Conflict
from db.jobs import steering
from db.jobs.jobs import get_job
from db.lifecycle import LIVE_JOBS, EndedStep, JobState, cancelled_chain, may_begin, retried_chain
from db.queue import shards
from db.queue.endings import cancel_shards, finalize_jobs
from db.settings import Role
from tests.db.flow import Flow
from tests.db.queue.test_sources import chain

Stores = Callable[[Role], Store]
ROWS, STEPS = 12, 3


class Story(RuleBasedStateMachine):
    flow: Flow
    actor: Actor

    @initialize()
    def make(self) -> None:
        self.ids = chain(self.flow, self.actor, ROWS, steps=STEPS)
        self.states = [JobState.VALIDATING] * STEPS

    @property
    def found(self) -> list[JobState]:
        return [JobState(step.state) for step in get_job(self.flow.api, self.actor, self.ids[-1]).steps]

    @rule()
    def cut(self) -> None:
        self.flow.cut()
        begin = [state is JobState.VALIDATING and may_begin(self.states[:at]) for at, state in enumerate(self.states)]
        self.states = [JobState.IN_PROGRESS if begins else state for begins, state in zip(begin, self.states, strict=True)]

    @rule(failing=st.sets(st.integers(0, ROWS - 1)), whole=st.booleans())
    def work(self, failing: set[int], whole: bool) -> None:
        """A shard: rows that cannot run have failed with its opening, and of the others some fail now."""
        for lease in shards.claim_any(self.flow.worker, "host:1", 1):
            assert self.states[self.ids.index(lease.job_id)] is JobState.IN_PROGRESS
            rows = shards.open_shard(self.flow.worker, lease)[1]
            bad = [row.idx for row in rows if row.code is not None or row.idx in failing]
            good = [row.idx for row in rows if row.idx not in bad]
            if bad:
                self.flow.answer(lease, bad, finish=not good, fail=True)
            if good:
                self.flow.answer(lease, good if whole else good[: len(good) // 2 or 1])

    @rule()
    def finish(self) -> None:
        cancel_shards(self.flow.dispatcher)
        finalize_jobs(self.flow.dispatcher)
        for at, (known, state) in enumerate(zip(self.states, self.found, strict=True)):
            ends = {JobState.IN_PROGRESS: {JobState.COMPLETED, JobState.FAILED}, JobState.CANCELLING: {JobState.CANCELLED}}
            assert state is known or state in ends[known]
            self.states[at] = state

    @rule()
    def cancel(self) -> None:
        following = cancelled_chain(self.states)
        try:
            steering.cancel_job(self.flow.api, self.actor, self.ids[-1])
        except Conflict:
            assert following is None
        else:
            assert following is not None
            self.states = following

    @rule()
    def retry(self) -> None:
        told = get_job(self.flow.api, self.actor, self.ids[-1]).steps
        steps = [EndedStep(JobState(step.state), bool(self.flow.shards(step)), step.completed_count < ROWS) for step in told]
        following = retried_chain(steps)
        try:
            steering.retry_job(self.flow.api, self.actor, self.ids[-1])
        except Conflict:
            assert following is None or following == self.states
        else:
            assert following is not None
            assert following != self.states
            self.states = following

    @invariant()
    def the_store_and_the_rules_agree(self) -> None:
        if hasattr(self, "ids"):
            assert self.found == self.states

    @invariant()
    def at_most_one_step_works_and_none_before_those_before_it_have_ended(self) -> None:
        if hasattr(self, "ids"):
            working = [at for at, state in enumerate(self.states) if state is JobState.IN_PROGRESS]
            assert len(working) <= 1
            assert all(state not in LIVE_JOBS for at in working for state in self.states[:at])

    @invariant()
    def no_row_is_done_in_a_step_and_not_in_those_before_it(self) -> None:
        if hasattr(self, "ids"):
            find = "SELECT idx FROM results WHERE job_id = :job AND outcome = 1"
            done = [{idx for (idx,) in self.flow.execute(self.actor, find, job=job_id)} for job_id in self.ids]
            assert all(later <= earlier for earlier, later in pairwise(done))

    def teardown(self) -> None:
        if hasattr(self, "ids"):
            steering.delete_job(self.flow.api, self.actor, self.ids[-1])


def test_a_chain_goes_the_way_of_the_rules(stores: Stores, tenant: Actor) -> None:
    class ThisStory(Story):
        flow = Flow(stores)
        actor = tenant

    examples = settings(max_examples=12, stateful_step_count=18, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    run_state_machine_as_test(ThisStory, settings=examples)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("steps", "following"),
    [
        ([("completed", True, False), ("completed", True, True), ("failed", True, True)], ["completed", "in_progress", "validating"]),
        ([("cancelled", True, True), ("cancelled", False, True)], ["in_progress", "validating"]),
        ([("cancelled", False, True), ("cancelled", False, True)], ["validating", "validating"]),
        ([("completed", True, False), ("completed", True, False)], ["completed", "completed"]),
        ([("completed", True, True), ("in_progress", True, True)], None),
        ([("failed", False, True), ("failed", False, True)], None),
    ],
)
def test_a_retry_goes_on_with_the_first_step_that_has_a_row_to_run(
    steps: list[tuple[str, bool, bool]], following: list[str] | None
) -> None:
    assert retried_chain([EndedStep(JobState(state), shards, rows) for state, shards, rows in steps]) == following
