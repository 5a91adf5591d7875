"""What is told of a process that died."""

from pathlib import Path

from api.local.processes.parts import in_words, last_line


def test_the_last_words_of_a_log_of_json_are_its_message(tmp_path: Path) -> None:
    log = tmp_path / "api.log"
    lines = ['{"level": "info", "event": "listening"}', '{"level": "error", "event": "no room on the disk", "error": "OSError"}']
    log.write_text("\n".join(lines))
    assert last_line(log, 0) == "no room on the disk (OSError)"
    log.write_text("2026-11-27 12:00:00,001 ERROR textmill.worker the device is lost\n")
    assert last_line(log, 0).endswith("the device is lost")


def test_what_is_no_log_line_of_ours_stays_as_it_is() -> None:
    for line in ("Killed", "[1, 2]", "{}", '{"event": 5}', '{"event": ""}', "12"):
        assert in_words(line) == line
