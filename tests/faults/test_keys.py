"""F48: a part with another key file than the store's."""

from pathlib import Path

import pytest

from db.sealing.keys import LocalKeyFile
from tests.faults.conftest import Verdict
from tests.faults.house import LONG_LEASE, House, texts


@pytest.mark.fault("F48", "one of two workers, and an API, with another key file")
def test_a_part_with_another_key_file_ends_and_fails_no_row(house: House, tmp_path: Path, verdict: Verdict) -> None:
    """It is the first that starts, so that it alone would have claimed."""
    house.api.authority()  # the store knows its key since an API key was made
    LocalKeyFile.create(tmp_path / "other.json")
    load = house.load(texts(600))
    house.start_dispatcher()
    other = {"TEXTMILL_KEK_FILE": str(tmp_path / "other.json")}
    for process in (house.start_worker(**other), house.start("api.app", **other)):
        assert process.popen.wait(40) != 0
        assert "wrapped by another key file" in process.log.splitlines()[-1]
    assert house.done_count(load.job_id) == 0
    house.start_worker(**LONG_LEASE)
    house.wait_all_completed([load])
    assert {(shard.crash_attempts, shard.error_attempts) for shard in house.shards(load.job_id)} == {(0, 0)}
    assert verdict(house.count([load])).recomputed == 0
