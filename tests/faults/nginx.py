"""nginx as a proxy in front of a server: a process in a folder of its own, always stopped."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..servers.harness import HOST, Server
from .record import PATIENCE

BINARY = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")

CONFIGURATION = """\
daemon off;
master_process off;
pid nginx.pid;
error_log error.log;
events {{ worker_connections 64; }}
http {{
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    log_format short "$remote_addr $status $request";
    access_log access.log short;

    limit_req_zone $binary_remote_addr zone=clients:1m rate=1r/m;
    limit_req_status 429;

    server {{
        listen {listen};
        proxy_set_header Host $http_host;
        proxy_set_header X-Real-IP $remote_addr;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;

        location / {{
            limit_req zone=clients burst=4 nodelay;
            proxy_pass http://{upstream};
        }}
        location /admin {{
            deny all;
        }}
    }}
}}
"""
"""Five requests of each client, /admin for nobody, and who the client is in headers."""


@dataclass
class Proxy:
    """A running nginx; to the functions of `client`, it is a server."""

    port: int
    folder: Path
    host: str = HOST
    mount: str = ""

    def access_log(self) -> list[str]:
        """A line for each request: client, status, request line."""
        return (self.folder / "access.log").read_text().splitlines()


@contextmanager
def proxy_to(server: Server, folder: Path, configuration: str = CONFIGURATION) -> Iterator[Proxy]:
    """Proxy to `server` until the block ends; `folder` is nginx's prefix."""
    process, port = _started(f"{server.host}:{server.port}", folder, configuration)
    try:
        yield Proxy(port, folder)
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _started(
    upstream: str, folder: Path, configuration: str
) -> tuple[subprocess.Popen[bytes], int]:
    """nginx, accepting connections. It is tried again in case somebody took the port."""
    assert BINARY
    for _ in range(3):
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = probe.getsockname()[1]
        text = configuration.format(listen=f"{HOST}:{port}", upstream=upstream)
        (folder / "nginx.conf").write_text(text)
        process = subprocess.Popen(
            [BINARY, "-p", str(folder), "-c", "nginx.conf", "-e", "error.log"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection((HOST, port), timeout=1).close()
            except OSError:
                time.sleep(0.01)
            else:
                return process, port
        process.kill()
        process.wait()
    raise RuntimeError(f"nginx did not start; it wrote:\n{(folder / 'error.log').read_text()}")
