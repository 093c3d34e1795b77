"""gunicorn as a process of its own, on a port of 127.0.0.1, always stopped."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TIMEOUT = 60.0
"""Seconds for an exchange; the first may have to wait until the server has started."""


@dataclass(frozen=True)
class Server:
    """A server that was started, and the WSGI application that asks it."""

    port: int
    log: Path

    def __call__(self, environ: Mapping[str, Any], start_response: Any) -> list[bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        headers = {"Host": "localhost", "Content-Type": environ.get("CONTENT_TYPE", "")}
        try:
            connection.request(
                environ["REQUEST_METHOD"],
                environ["PATH_INFO"],
                environ["wsgi.input"].read() or None,
                headers,
            )
            response = connection.getresponse()
            start_response(f"{response.status} {response.reason}", response.getheaders())
            return [response.read()]
        except OSError as error:
            error.add_note(self.log.read_text())
            raise
        finally:
            connection.close()


@contextmanager
def gunicorn(
    app: str, *options: str, conf: str = "", environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Serve `app`, `module:attribute`, until the block ends; `conf` is its `gunicorn.conf.py`.

    It is given a socket that listens already: whoever connects waits until it has started.
    """
    inherited = os.environ.get("PYTHONPATH")
    with tempfile.TemporaryDirectory(prefix="batchwsgi-") as folder:
        Path(folder, "gunicorn.conf.py").write_text(conf)
        log = Path(folder, "log")
        with socket.create_server(("127.0.0.1", 0)) as listening, log.open("wb") as output:
            port = listening.getsockname()[1]
            descriptor = listening.fileno()
            process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", f"--bind=fd://{descriptor}", *options, app],
                cwd=folder,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), inherited])),
                    "XDG_RUNTIME_DIR": folder,  # for its control socket
                    **(environment or {}),
                },
                pass_fds=[descriptor],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield Server(port, log)
        finally:
            process.terminate()
            try:
                process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
