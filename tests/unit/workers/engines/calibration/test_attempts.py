from pathlib import Path

import pytest

from workers.engines.calibration.attempts import Attempts


def died_in(path: Path, name: str) -> None:
    """As a process leaves it that ended in the middle."""
    with path.open("a") as file:
        file.write(f"{name}\n")


def test_one_end_may_have_been_anybodys_and_two_are_the_ways_own(tmp_path: Path) -> None:
    path = tmp_path / "tried"
    died_in(path, "onnx int8")
    assert not Attempts(path).ended_processes("onnx int8")
    died_in(path, "openvino int8")
    died_in(path, "onnx int8")
    assert Attempts(path).ended_processes("onnx int8")
    assert not Attempts(path).ended_processes("openvino int8")


def test_what_was_come_back_from_is_not_held_against_a_way(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path / "calibration" / "tried")
    for _ in range(3):
        with pytest.raises(RuntimeError), attempts.trying("onnx int8"):
            raise RuntimeError
    with attempts.trying("onnx int8"):
        assert not attempts.ended_processes("onnx int8")
    died_in(tmp_path / "calibration" / "tried", "onnx int8")
    with attempts.trying("onnx int8"):
        pass
    died_in(tmp_path / "calibration" / "tried", "onnx int8")
    assert attempts.ended_processes("onnx int8")


def test_without_a_place_to_note_it_everything_is_tried(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for attempts in (Attempts(), Attempts(tmp_path / "file" / "tried")):
        with attempts.trying("onnx int8"):
            assert not attempts.ended_processes("onnx int8")
