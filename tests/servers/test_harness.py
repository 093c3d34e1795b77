"""The harness leaves nothing behind, whatever happens."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from .harness import Server, start


def test_a_server_ends_with_its_block() -> None:
    with pytest.raises(ZeroDivisionError), start("gunicorn_sync") as server:
        assert server.alive()
        raise ZeroDivisionError
    _gone(server)


def test_a_server_that_does_not_end_by_itself_is_killed(tmp_path: Path) -> None:
    (tmp_path / "stubborn.py").write_text(
        "import signal\n"
        "from tests.servers.apps import application\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    )
    with start("wsgiref", "stubborn:application", PYTHONPATH=str(tmp_path)) as server:
        server.patience = 0.1
    _gone(server)


@pytest.mark.parametrize("name", ["waitress", "cheroot", "werkzeug"])
def test_a_server_that_cannot_start_says_why(name: str) -> None:
    """gunicorn and uWSGI listen before they load the application, so that they do start."""
    with (
        pytest.raises(RuntimeError, match=f"{name} did not start; it wrote:(.|\n)*no_such_module"),
        start(name, "tests.servers.no_such_module:app"),
    ):
        raise AssertionError("it started")


def _gone(server: Server) -> None:
    assert not server.alive()
    assert not server.log.exists()
    with pytest.raises(ConnectionRefusedError), socket.socket() as probe:
        probe.connect((server.host, server.port))
