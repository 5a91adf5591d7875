"""What a job's owner is warned of, out of counts alone."""

from dataclasses import fields

import pytest

from api.job_warnings import TOLD, warnings_of
from workers.batches.outcomes import BatchShare


def test_nothing_is_warned_of_where_nothing_was_noticed() -> None:
    assert warnings_of(None, 10) == []
    assert warnings_of({"tokens": 5.0, "truncated_rows": 0.0}, 10) == []


def test_texts_that_were_cut_are_warned_of_with_their_number() -> None:
    (warned,) = warnings_of({"truncated_rows": 530.0}, 600)
    assert (warned.code, warned.rows) == ("truncated", 530)
    assert warned.message.startswith("530 of 600 texts are longer than the model reads")


def test_a_job_that_ran_twice_warns_of_no_more_rows_than_it_has() -> None:
    (warned,) = warnings_of({"truncated_rows": 16.0}, 9)
    assert warned.rows == 9


@pytest.mark.parametrize(("unlike", "codes"), [(24.0, []), (25.0, ["unlike_labels"]), (100.0, ["unlike_labels"])])
def test_labels_that_do_not_fit_are_warned_of_from_a_quarter_of_the_texts_on(unlike: float, codes: list[str]) -> None:
    assert [warned.code for warned in warnings_of({"unlike_rows": unlike}, 100)] == codes


@pytest.mark.parametrize(("foreign", "codes"), [(49.0, []), (50.0, ["foreign_texts"])])
def test_texts_of_other_languages_are_warned_of_from_half_of_them_on(foreign: float, codes: list[str]) -> None:
    assert [warned.code for warned in warnings_of({"foreign_rows": foreign}, 100)] == codes


def test_each_code_and_each_sum_is_told_once() -> None:
    assert len({told.code for told in TOLD}) == len({told.metric for told in TOLD}) == len(TOLD)
    assert {told.metric for told in TOLD} <= {each.name for each in fields(BatchShare)}
