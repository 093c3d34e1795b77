"""WSGI servers for tests: each a subprocess on a free port of 127.0.0.1, always stopped.

    with start("waitress", "package.module:application") as server:
        reply = client.ask(server, "GET", "/")

`SERVERS` has the servers by name. One is started with the interpreter that runs the tests, waited
for by connecting, and stopped by its own process group whatever happens; what it wrote is in
`server.log`.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

HOST = "127.0.0.1"
ROOT = Path(__file__).parents[2]
WRAPPED, UNWRAPPED = "tests.servers.apps:application", "tests.servers.apps:app"

START_UP, SHUT_DOWN = 30.0, 5.0
"""Seconds that a server may take to accept connections, and to end by itself."""

GUNICORN_CONF = """\
from batchwsgi import BatchMiddleware

def post_worker_init(worker):
    worker.wsgi = BatchMiddleware(worker.wsgi)
"""
"""`gunicorn.conf.py` as the documentation has it."""


class Place(NamedTuple):
    """Where a server is to serve what."""

    app: str
    """The application, as `module:attribute`."""
    port: int
    mount: str
    """The prefix of all URLs, or ""."""
    folder: Path
    """An empty folder of its own, which is its working directory."""


class Command(NamedTuple):
    """What to run: the interpreter's arguments, and more environment variables."""

    arguments: list[str]
    environment: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A server as the tests know it; what is said of it here is tested, not remembered."""

    command: Callable[[Place], Command]
    wraps: bool = False
    """It adds the endpoint itself: the application that it is given has none."""
    keeps_alive: bool = True
    """It answers more than one request on one connection."""
    takes_chunks: bool = True
    """It decodes a chunked request body and says so, with `wsgi.input_terminated` or a length."""
    buffers: bool = False
    """It calls the application only when all of the request body has come."""
    continues: bool = True
    """It answers `Expect: 100-continue` with an interim 100."""


def _gunicorn(*options: str) -> Callable[[Place], Command]:
    def command(place: Place) -> Command:
        return Command(
            ["-m", "gunicorn", f"--bind={HOST}:{place.port}", *options, place.app],
            {
                "SCRIPT_NAME": place.mount,
                "GUNICORN_CMD_ARGS": "",
                "XDG_RUNTIME_DIR": str(place.folder),  # for its control socket
            },
        )

    return command


def _gunicorn_conf(place: Place) -> Command:
    (place.folder / "gunicorn.conf.py").write_text(GUNICORN_CONF)  # read from where it starts
    return _gunicorn()(place)


def _waitress(place: Place) -> Command:
    mount = [f"--url-prefix={place.mount}"] if place.mount else []
    return Command(["-m", "waitress", f"--listen={HOST}:{place.port}", *mount, place.app], {})


def _granian(place: Place) -> Command:
    mount = [f"--url-path-prefix={place.mount}"] if place.mount else []
    options = ["--interface=wsgi", f"--host={HOST}", f"--port={place.port}"]
    return Command(["-m", "granian", *options, *mount, place.app], {})


def _uwsgi(place: Place) -> Command:
    app = [f"--module={place.app}"]
    if place.mount:
        app = [f"--mount={place.mount}={place.app}", "--manage-script-name"]
    options = [f"--http-socket={HOST}:{place.port}", "--need-app", "--die-on-term"]
    return Command(["-c", "import pyuwsgi; pyuwsgi.run()", *options, *app], {})


def _cheroot(place: Place) -> Command:
    if place.mount:
        return _serve("cheroot")(place)
    return Command(["-m", "cheroot", f"--bind={HOST}:{place.port}", place.app], {})


def _serve(server: str) -> Callable[[Place], Command]:
    """A server without a command line of its own."""

    def command(place: Place) -> Command:
        arguments = [server, place.app, str(place.port), place.mount]
        return Command(["-m", "tests.servers.serve", *arguments], {})

    return command


SERVERS = {
    "gunicorn_sync": Kind(command=_gunicorn(), keeps_alive=False),
    "gunicorn_gthread": Kind(command=_gunicorn("--worker-class=gthread", "--threads=4")),
    "gunicorn_gevent": Kind(command=_gunicorn("--worker-class=gevent")),
    "gunicorn_conf": Kind(command=_gunicorn_conf, wraps=True, keeps_alive=False),
    "waitress": Kind(command=_waitress, buffers=True),
    "cheroot": Kind(command=_cheroot),
    "granian": Kind(command=_granian),
    "uwsgi": Kind(command=_uwsgi, keeps_alive=False, takes_chunks=False, continues=False),
    "werkzeug": Kind(command=_serve("werkzeug"), wraps=True, keeps_alive=False),
    "gevent_pywsgi": Kind(command=_serve("gevent")),
    "wsgiref": Kind(
        command=_serve("wsgiref"), keeps_alive=False, takes_chunks=False, continues=False
    ),
}


@dataclass
class Server:
    """A server that has started: where it is, and what it wrote."""

    name: str
    kind: Kind
    port: int
    mount: str
    log: Path
    process: subprocess.Popen[bytes] = field(repr=False)
    host: str = HOST
    patience: float = SHUT_DOWN
    """Seconds that it may take to end by itself."""

    @property
    def pid(self) -> int:
        """The process that was started, which is also the id of its process group."""
        return self.process.pid

    def alive(self) -> bool:
        """Whether the process that was started still runs. It is not reaped by asking."""
        if self.process.returncode is not None:
            return False
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def output(self) -> str:
        """What it wrote so far, on standard output and standard error."""
        return self.log.read_text(errors="replace")

    def stop(self) -> None:
        """End the process and all that it started: SIGTERM, then SIGKILL to its process group.

        The process is reaped last: until then nobody else can have its id.
        """
        if self.process.returncode is None:
            os.kill(self.pid, signal.SIGTERM)
            deadline = time.monotonic() + self.patience
            while self.alive() and time.monotonic() < deadline:
                time.sleep(0.01)
            os.killpg(self.pid, signal.SIGKILL)
            self.process.wait()


@contextmanager
def start(
    name: str, app: str | None = None, *, mount: str = "", **environment: str
) -> Iterator[Server]:
    """Serve `app` with the server of that name, under `mount`, until the block ends.

    `app` is `module:attribute`, found from the root of the repository; the application of
    `tests.servers.apps` if it is left out. Servers whose kind says `wraps` add the endpoint to it.
    `environment` are more environment variables.
    """
    kind = SERVERS[name]
    if app is None:
        app = UNWRAPPED if kind.wraps else WRAPPED
    with tempfile.TemporaryDirectory(prefix="batchwsgi-") as folder:
        server = _started(name, Place(app, 0, mount, Path(folder)), environment)
        try:
            yield server
        finally:
            server.stop()


def _started(name: str, place: Place, environment: dict[str, str]) -> Server:
    """The server, accepting connections. It is tried again in case somebody took the port."""
    for attempt in range(3):
        place = place._replace(port=_free_port())
        server = _launched(name, place, environment)
        try:
            if _accepts(server):
                return server
        except BaseException:
            server.stop()
            raise
        server.stop()
        if attempt == 2 or "in use" not in server.output().lower():
            break
    raise RuntimeError(f"{name} did not start; it wrote:\n{server.output()}")


def _launched(name: str, place: Place, environment: dict[str, str]) -> Server:
    command = SERVERS[name].command(place)
    paths = [str(ROOT), environment.get("PYTHONPATH", os.environ.get("PYTHONPATH"))]
    log = place.folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *command.arguments],
            cwd=place.folder,
            env={
                **os.environ,
                "PYTHONUNBUFFERED": "1",
                **command.environment,
                **environment,
                "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Server(name, SERVERS[name], place.port, place.mount, log, process)


def _free_port() -> int:
    """A port that nobody has now, outside the range that outgoing connections get (Linux)."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        return port


def _accepts(server: Server) -> bool:
    """Wait until `server` accepts a connection; False if it ended or its time is up."""
    deadline = time.monotonic() + START_UP
    while server.alive() and time.monotonic() < deadline:
        try:
            socket.create_connection((server.host, server.port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return server.alive()
    return False
