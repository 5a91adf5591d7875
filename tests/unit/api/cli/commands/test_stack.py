"""`textmill up`: what it says of settings that do nothing under it."""

from pathlib import Path

import pytest

from api.cli.commands.stack import ignored_settings


def test_a_port_for_metrics_is_said_to_do_nothing_under_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TEXTMILL_HOME", str(tmp_path))
    monkeypatch.delenv("TEXTMILL_METRICS_PORT", raising=False)
    assert ignored_settings() == []
    monkeypatch.setenv("TEXTMILL_METRICS_PORT", "9101")
    (told,) = ignored_settings()
    assert "TEXTMILL_METRICS_PORT" in told
    assert str(tmp_path / "run" / "state.json") in told
