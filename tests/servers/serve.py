"""`python -m tests.servers.serve SERVER MODULE:APP PORT [MOUNT]`, for servers without a command.

Under a mount, each uses what it has for that, else werkzeug's `DispatcherMiddleware`.
"""

from __future__ import annotations

import sys

from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.utils import import_string

from batchwsgi import BatchMiddleware

from ..support import App
from .harness import HOST


def serve_wsgiref(app: App, port: int, mount: str) -> None:
    from wsgiref.simple_server import make_server

    with make_server(HOST, port, dispatched(app, mount)) as server:
        server.serve_forever()


def serve_werkzeug(app: App, port: int, mount: str) -> None:
    from werkzeug.serving import run_simple

    run_simple(HOST, port, dispatched(BatchMiddleware(app), mount), threaded=True)


def serve_gevent(app: App, port: int, mount: str) -> None:
    from gevent.pywsgi import WSGIServer

    WSGIServer((HOST, port), dispatched(app, mount)).serve_forever()


def serve_cheroot(app: App, port: int, mount: str) -> None:
    from cheroot.wsgi import PathInfoDispatcher, Server

    Server((HOST, port), PathInfoDispatcher({mount or "/": app})).safe_start()


def dispatched(app: App, mount: str) -> App:
    return DispatcherMiddleware(NotFound(), {mount: app}) if mount else app


SERVERS = {
    "wsgiref": serve_wsgiref,
    "werkzeug": serve_werkzeug,
    "gevent": serve_gevent,
    "cheroot": serve_cheroot,
}


def main(server: str, name: str, port: str, mount: str = "") -> None:
    SERVERS[server](import_string(name), int(port), mount)


if __name__ == "__main__":
    main(*sys.argv[1:])
