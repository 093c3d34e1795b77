"""Servers and the proxy: processes on free ports of 127.0.0.1, always stopped."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

HOST = "127.0.0.1"
APP = "benchmarks.served:application"


@contextmanager
def gunicorn(
    worker: str, app: str = APP, threads: int = 6, environment: Mapping[str, str] | None = None
) -> Iterator[int]:
    """The port of gunicorn with one worker; one of class gthread has so many threads."""
    options = [f"--threads={threads}", "--keep-alive=30"] if worker == "gthread" else []
    port = _free_port()
    command = ["gunicorn", f"--bind={HOST}:{port}", f"-k{worker}", *options, app]
    with _started(port, *command, environment=environment):
        yield port


@contextmanager
def granian() -> Iterator[int]:
    """The port of granian, which speaks HTTP/2 without TLS, with one worker."""
    port = _free_port()
    options = ["--interface=wsgi", "--http=2", f"--host={HOST}", f"--port={port}"]
    with _started(port, "granian", *options, APP):
        yield port


@contextmanager
def delayed(port: int, round_trip: float, window: int = 0) -> Iterator[int]:
    """The port of a proxy to `port` that is `round_trip` seconds away; see `proxy`."""
    front = _free_port()
    options = [str(number) for number in (front, port, round_trip, window)]
    with _started(front, "benchmarks.proxy", *options):
        yield front


@contextmanager
def _started(
    port: int, module: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="batchwsgi-") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=Path(__file__).parents[1],
                # gunicorn has a control socket, which goes to the last of these.
                env={
                    **os.environ,
                    "GUNICORN_CMD_ARGS": "",
                    "XDG_RUNTIME_DIR": folder,
                    **(environment or {}),
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            _await(port, process, log)
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _await(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"{process.args} does not accept connections:\n{log.read_text()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
