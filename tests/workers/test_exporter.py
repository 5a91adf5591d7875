"""Where a process shows its metrics, and what it says where it cannot."""

import urllib.request
from importlib.metadata import version

import pytest

from api.local.processes.ports import free_port
from db.errors import SettingsError
from workers.exporter import ProcessRegistry, serve


def told(host: str, port: int) -> str:
    with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


def test_metrics_are_served_where_the_operator_says_and_nowhere_else() -> None:
    port = free_port()
    serve(ProcessRegistry(), "127.0.0.2", port)
    assert f'textmill_build_info{{version="{version("textmill")}"}} 1.0' in told("127.0.0.2", port)
    with pytest.raises(OSError, match="refused"):
        told("127.0.0.1", port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "127.0.0.1"])
def test_an_address_that_cannot_be_listened_on_is_told_with_the_settings_that_name_it(host: str) -> None:
    port = free_port()
    if host == "127.0.0.1":
        serve(ProcessRegistry(), host, port)
    with pytest.raises(SettingsError, match=rf"TEXTMILL_METRICS_PORT.* port {port} of {host} .*TEXTMILL_METRICS_HOST"):
        serve(ProcessRegistry(), host, port)
