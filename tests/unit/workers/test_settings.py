import pytest
from pydantic import ValidationError

from workers.settings import WorkerSettings


def test_the_defaults_fit_together() -> None:
    settings = WorkerSettings()
    assert settings.lease_seconds > 2 * settings.heartbeat_seconds
    assert settings.fence_margin_seconds < settings.lease_seconds - settings.heartbeat_seconds


def test_a_lease_shorter_than_two_heartbeats_is_refused_with_a_sentence() -> None:
    with pytest.raises(ValidationError, match="more than twice"):
        WorkerSettings(lease_seconds=10, heartbeat_seconds=5)


def test_models_come_as_a_comma_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTMILL_MODELS", "minilm-l6-v2, gemma3-270m,")
    assert WorkerSettings().models == ("minilm-l6-v2", "gemma3-270m")


@pytest.mark.parametrize("device", ["gpu", "cuda", "cuda:x", "cpu:0", ""])
def test_a_device_nobody_knows_is_refused(device: str) -> None:
    with pytest.raises(ValidationError, match="TEXTMILL_DEVICE"):
        WorkerSettings(device=device)
