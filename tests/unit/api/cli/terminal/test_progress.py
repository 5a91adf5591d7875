"""Speed and time left, and how they are told."""

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.cli.terminal.progress import Pace, Speeds, Waits, amount, clock, show_progress
from api.cli.work.following import FIRST_POLL_SECONDS, LAST_POLL_SECONDS, WAITING_SECONDS, fault_texts, note_on
from api.wire import Batch, BatchFault, BatchFaults, Extras, RowCounts, WaitingFor


def test_a_pace_needs_two_looks() -> None:
    pace = Pace()
    assert pace.per_second is None
    pace.note(0.0, 0)
    assert pace.per_second is None
    assert pace.seconds_left(10) is None


def test_the_speed_is_that_of_the_last_window_only() -> None:
    pace = Pace(window_seconds=10)
    for second in range(60):  # a model loads for a minute
        pace.note(float(second), 0)
    for second in range(60, 75):
        pace.note(float(second), (second - 59) * 100)
    assert pace.per_second == 100
    assert pace.seconds_left(2500) == 10


def test_nothing_done_tells_no_time_left() -> None:
    pace = Pace()
    pace.note(0.0, 5)
    pace.note(1.0, 5)
    assert pace.seconds_left(10) is None


@given(st.lists(st.tuples(st.floats(0, 100, allow_nan=False), st.integers(0, 50)), min_size=2, max_size=60))
def test_the_speed_never_leaves_the_range_of_what_was_seen(steps: list[tuple[float, int]]) -> None:
    pace, now, done = Pace(), 0.0, 0
    for seconds, rows in steps:
        now, done = now + seconds, done + rows
        pace.note(now, done)
    assert pace.per_second is None or pace.per_second > 0
    assert pace.seconds_left(done) in (None, 0.0)


def test_sizes_and_times_read_well() -> None:
    assert [amount(999, "bytes"), amount(1_500, "bytes"), amount(2_500_000_000, "bytes"), amount(12_345, "rows")] == [
        "999 B",
        "1.5 kB",
        "2.5 GB",
        "12,345",
    ]
    assert [clock(4.6), clock(65), clock(7389)] == ["5 s", "1:05", "2:03:09"]


def test_a_paused_job_is_told_as_such_and_nobody_is_sent_to_look_for_a_worker() -> None:
    def batch(*, paused: bool) -> Batch:
        counts = RowCounts(total=10, completed=0, failed=0)
        return Batch("batch_1", "/v1/embeddings", "in_progress", "file-1", 0, counts=counts, textmill=Extras(paused=paused))

    assert note_on(batch(paused=True), 2 * WAITING_SECONDS) == "paused"
    assert note_on(batch(paused=False), 2 * WAITING_SECONDS) == ""


def test_a_job_that_waits_says_for_what_once_that_takes_a_moment() -> None:
    waiting = Extras(waiting_for=WaitingFor("loading", "loading small (4 s)"))
    live = Batch("batch_1", "/v1/embeddings", "in_progress", "file-1", 0, counts=RowCounts(10, 0, 0), textmill=waiting)
    assert note_on(live, WAITING_SECONDS / 2) == ""
    assert note_on(live, WAITING_SECONDS) == "loading small (4 s)"
    assert note_on(msgspec.structs.replace(live, status="completed"), WAITING_SECONDS) == ""


def test_one_fault_of_many_lines_is_told_once() -> None:
    faults = [BatchFault("missing_text_column", line, "No text.") for line in range(1, 11)]
    batch = Batch("batch_1", "/v1/embeddings", "failed", "file-1", 0, errors=BatchFaults(data=[*faults, BatchFault("x", 12, "Other.")]))
    assert fault_texts(batch) == ["lines 1, 2, 3 and 7 more: No text.", "line 12: Other."]
    whole = [BatchFault("a", 1, "A.", rows=2), BatchFault("a", 9, "A.", rows=1), BatchFault("b", None, "B.")]
    assert fault_texts(msgspec.structs.replace(batch, errors=BatchFaults(data=whole))) == [
        "2 rows, the first in line 1: A.",
        "1 row: A.",
        "B.",
    ]


def test_the_time_before_the_first_rows_is_no_work_and_nothing_is_foretold_of_the_first_bursts() -> None:
    """1,800 rows at 20 a second after a model loaded for ten seconds: 1:30 is true, and 10:24 was said."""
    pace = Pace()
    told = []
    for tick in range(1, 200):
        seconds = tick * 0.2
        done = 0 if seconds < 10 else int((seconds - 10) // 1.6) * 32  # a chunk of 32 rows every 1.6 s
        pace.note(seconds, done)
        if (left := pace.seconds_left(1_800)) is not None:
            told.append((seconds, left, (1_800 - done) / 20))
    assert told[0][0] < 20
    assert all(1 / 1.5 < left / true < 1.5 for _, left, true in told)


@pytest.mark.parametrize("loading", [0.0, 10.0, 90.0])
@pytest.mark.parametrize(("every", "rows"), [(0.3, 64), (1.6, 32), (2.5, 300), (4.0, 1_000)])
def test_the_first_time_that_is_told_is_true(loading: float, every: float, rows: int) -> None:
    """Of bursts that are alike, at the CLI's own looks: a second apart, and closer at first."""
    pace, seconds, pause, told = Pace(), 0.0, FIRST_POLL_SECONDS, []
    total = round(rows / every * 120)
    while seconds < loading + 100:
        done = max(0, int((seconds - loading) // every)) * rows
        pace.note(seconds, done)
        if (left := pace.seconds_left(total)) is not None:
            told.append((left, (total - done) * every / rows))
        seconds, pause = seconds + pause, min(LAST_POLL_SECONDS, pause * 1.3)
    assert told
    assert all(1 / 1.5 < left / true < 1.5 for left, true in told)


def test_where_no_terminal_looks_on_a_single_answer_says_each_reason_for_waiting_once(capsys: pytest.CaptureFixture[str]) -> None:
    waits = Waits("Generating", after_seconds=0)
    for note in ("", "loading gemma3-270m (6 s)", "loading gemma3-270m (7 s)", "a worker has it; no row is done yet", ""):
        waits.update(0, 1, note)
    assert capsys.readouterr().err.splitlines() == ["Generating: loading gemma3-270m", "Generating: a worker has it; no row is done yet"]


def test_a_single_answer_that_comes_soon_says_nothing_beside_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress("Generating", single=True) as progress:
        assert isinstance(progress, Waits)
        progress.update(0, 1, "validating")
        progress.update(1, 1)
    assert capsys.readouterr().err == ""


def test_rows_of_which_nothing_is_written_are_told_by_rows_and_texts_by_tokens() -> None:
    rows, texts = Speeds("rows"), Speeds("rows")
    for second in range(8):
        rows.note(float(second), second * 10, 0)
        texts.note(float(second), second * 2, second * 300)
    assert rows.told(100) == ["10 rows/s", "3 s left"]
    assert texts.told(20) == ["300 tokens/s", "3 s left"]
    assert texts.told(None) == ["300 tokens/s"]
    assert texts.told(14) == ["300 tokens/s"]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("slots", "speed"), [(1, 300), (4, 100), (16, 20)])
def test_the_time_left_of_texts_goes_by_the_lengths_seen_so_far(seed: int, slots: int, speed: int) -> None:
    """300 texts of 8 to 128 tokens, geometric, a token a step: what is told around the middle is nearly true."""
    draw = random.Random(seed)
    waiting = [min(128, 8 + int(draw.expovariate(1 / 40))) for _ in range(300)]
    speeds, running, done, tokens, step, told = Speeds("rows"), list[list[int]](), 0, 0, 0, list[tuple[int, float]]()
    while running or waiting:
        while waiting and len(running) < slots:
            running.append([0, waiting.pop()])
        step += 1
        for row in running:
            row[0] += 1
        done += sum(said == length for said, length in running)
        tokens += sum(length for said, length in running if said == length)
        running = [row for row in running if row[0] < row[1]]
        if step % speed == 0:  # a look a second
            speeds.note(step / speed, done, tokens)
            if 120 <= done <= 180 and (foretold := speeds.seconds_left(300)) is not None:
                told.append((step, foretold))
    assert told
    assert all(1 / 1.6 < foretold / ((step - at) / speed) < 1.6 for at, foretold in told)
