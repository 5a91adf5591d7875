"""Every part of `make bench` in its quick form: that each runs and brings its figures. What they are says nothing and is not judged."""

from pathlib import Path

import pytest

from tests.benchmarks.__main__ import exit_code
from tests.benchmarks.mill import environment
from tests.benchmarks.suite import PARTS, Options, Suite

# Named, so that nothing is calibrated.
UNCALIBRATED = {"ENGINE": "torch", "DTYPE": "float32", "LANES": "1", "THREADS": "2", "BUDGET_TOKENS": "1024"}


@pytest.mark.timeout(600)  # some 40 s on two idle cores
def test_every_part_runs_and_brings_its_figures(tmp_path: Path) -> None:
    """One test, because the parts share their stacks."""
    suite = Suite(tmp_path, Options(turns=1, rows=16, quick=True), print)
    with environment(**{f"TEXTMILL_{name}": value for name, value in UNCALIBRATED.items()}):
        suite.run()
    assert suite.found.failures == {}
    assert exit_code(suite.found, strict=False) == 0
    assert {key for keys in PARTS.values() for key in keys} <= set(suite.found.figures)
    assert [row[0].split(":")[0] for row in suite.found.shape_rows] == ["C2", "C3", "C4", "C8"]
