"""What makes `make test-unit` quick: a test that needs a server or a process fails here, and says where it belongs."""

import os
import subprocess

import pytest

from tests.unit.conftest import SERVERS, refuse_servers


def test_a_process_is_refused() -> None:
    with pytest.raises(pytest.fail.Exception, match="starts a process"):
        subprocess.run(["true"], check=True)
    with pytest.raises(pytest.fail.Exception, match="starts a process"):
        os.fork()


@pytest.mark.parametrize("name", sorted(SERVERS))
def test_a_server_is_refused(name: str) -> None:
    with pytest.raises(pytest.fail.Exception, match=f"asks for a server \\({name}\\)"):
        refuse_servers(["tmp_path", name])
    refuse_servers(["tmp_path"])


def test_every_server_of_the_tests_is_known(request: pytest.FixtureRequest) -> None:
    """So that a fixture that is renamed does not slip through."""
    assert {name for name in SERVERS if request._fixturemanager.getfixturedefs(name, request.node)} == SERVERS
