"""The mutants fit the source they were written for. That tests notice them is for `python -m tests.faults.mutants`, which takes minutes."""

import re
from pathlib import Path

import pytest

from tests.faults.mutants.mutant import Mutant
from tests.faults.mutants.roll import ALL
from tests.faults.mutants.run import Outcome, Verdict, judge, markdown

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: mutant.id)
def test_a_mutant_fits_its_source_and_its_tests_are_there(mutant: Mutant) -> None:
    source = (ROOT / mutant.file).read_text()
    changed = mutant.applied(source)
    assert changed != source
    if mutant.file.endswith(".py"):
        compile(changed, mutant.file, "exec")
    for test in mutant.tests:
        file, _, name = test.partition("::")
        assert (ROOT / file).exists(), test
        assert not name or re.search(rf"^def {name}\(", (ROOT / file).read_text(), re.MULTILINE), test


def test_no_two_mutants_share_an_id_or_a_change() -> None:
    assert len({mutant.id for mutant in ALL}) == len(ALL)
    assert len({(mutant.file, mutant.edits) for mutant in ALL}) == len(ALL)


def test_a_mutant_of_another_source_is_told_apart() -> None:
    mutant = Mutant("x", "a guard", "db/queue/shards.py", (("guard", ""),), ("tests",))
    assert mutant.applied("a guard here") == "a  here"
    for source in ("nothing here", "a guard and a guard"):
        with pytest.raises(ValueError, match=r"^x: \d places"):
            mutant.applied(source)


def test_only_a_test_that_failed_counts_as_found() -> None:
    assert judge(1, "FAILED tests/a.py::test_b - assert 1 == 2\n1 failed") == (Verdict.FOUND, "tests/a.py::test_b")
    assert judge(0, "1 passed") == (Verdict.SURVIVED, "no test")
    assert judge(1, "ERROR tests/a.py::test_b - no fixture\n1 error")[0] is Verdict.BROKEN
    assert judge(2, "FAILED tests/a.py::test_b\nERROR tests/a.py")[0] is Verdict.BROKEN
    assert judge(4, "") == (Verdict.BROKEN, "pytest ended with 4")


def test_the_table_tells_of_every_mutant() -> None:
    told = markdown([Outcome("x", "a guard", "db/queue/shards.py", Verdict.SURVIVED, "no test", 1.0)])
    assert "0 of 1" in told
    assert "survived" in told
