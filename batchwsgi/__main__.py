"""`python -m batchwsgi`: a development server with the endpoint, for the demo or one's own app."""

from __future__ import annotations

import argparse
import inspect
import logging
import re
import socket
from collections.abc import Callable, Sequence
from importlib import import_module
from operator import attrgetter
from os import strerror
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from werkzeug.serving import make_server

from batchwsgi import __version__, demo, wsgi
from batchwsgi.browser import Example
from batchwsgi.middleware import BatchMiddleware

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

HOST = "127.0.0.1"
_APP_HELP = "module:attribute, or 'module:factory()'; a demo if it is left out"
_MOST_LAYERS = 20
_NAME = re.compile(r"(\w+(?:\.\w+)*):(\w+(?:\.\w+)*)(?:\((.*)\))?")


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until interrupted. Raises `SystemExit` with one line for what cannot be served."""
    options = _parser().parse_args(arguments)
    app = _application(options.app) if options.app else demo.app
    served, path = _served(app, options)
    try:  # only to see that the port is free: the server below would say so in several lines
        socket.create_server((HOST, options.port)).close()
    except OSError as error:
        reason = strerror(error.errno or 0)
        raise _cannot(f"listen on port {options.port}: {reason}; choose another --port") from None
    server = make_server(HOST, options.port, served, threaded=True)
    print(_greeting(options.app, path, server.port, console=served is not app), flush=True)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    server.serve_forever()  # until interrupted; it then closes its socket


def _served(app: WSGIApplication, options: argparse.Namespace) -> tuple[WSGIApplication, str]:
    """`app` with an endpoint, which has the console, and the endpoint's path.

    If `app` has one already, it stays as it is: a second one would not know its options.
    """
    own = _endpoint(app)
    if own is not None and options.path is None:
        return app, own.path
    path = options.path or "/batch"
    try:
        return (BatchMiddleware if options.app else _Demo)(app, path, console=True), path
    except ValueError as error:
        raise _cannot(f"serve the endpoint: {error}") from None


def _endpoint(app: object) -> BatchMiddleware | None:
    """The endpoint that `app` has: in Flask's quickstart, or inside of other middleware.

    There is no standard name for what a middleware wraps; these are the usual ones.
    """
    for _ in range(_MOST_LAYERS):
        if isinstance(app, BatchMiddleware):
            return app
        inner = [getattr(app, name, None) for name in ("wsgi_app", "app", "application", "wsgi")]
        app = next(filter(callable, inner), None)
    return None


def _cannot(line: str) -> SystemExit:
    return SystemExit(f"batchwsgi: cannot {line}")


def port(text: str) -> int:
    """A TCP port. Raises `ValueError` for what is none, which argparse reports."""
    number = int(text)
    if not 0 <= number <= 65535:
        raise ValueError(text)
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m batchwsgi",
        description="Serve a WSGI application with a batch endpoint, for development.",
    )
    parser.add_argument("--version", action="version", version=_version())
    parser.add_argument("app", nargs="?", help=_APP_HELP)
    parser.add_argument("--path", help="the endpoint's path (/batch)")
    parser.add_argument("--port", type=port, default=8000, help="on 127.0.0.1 (%(default)s)")
    return parser


def _version() -> str:
    """The version, and whether this is the compiled build."""
    compiled = not str(wsgi.__file__).endswith(".py")
    return f"batchwsgi {__version__} ({'compiled' if compiled else 'pure Python'})"


def _application(name: str) -> WSGIApplication:
    """The application of that name. What its own module or factory raises is for its author."""
    named = _NAME.fullmatch(name)
    if named is None:
        form = "module:attribute or module:factory()"
        raise _cannot(f"serve {name!r}: it does not name an application as {form}")
    module, attribute, arguments = named.groups()
    if arguments:
        raise _cannot(f"call {attribute} with {arguments}: a factory is called without arguments")
    found = _imported(name, module, attribute)
    return _checked(name, found if arguments is None else _made(name, found))


def _imported(name: str, module: str, attribute: str) -> Any:  # it may be anything
    """What the name stands for, without the parentheses of a factory."""
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise  # something that the module itself imports
        raise _cannot(f"import {name}: {error}") from None
    try:
        return attrgetter(attribute)(found)
    except AttributeError as error:
        raise _cannot(f"import {name}: {error}") from None


def _made(name: str, factory: Any) -> Any:
    """What the factory makes."""
    if not callable(factory):
        raise _cannot(f"call {name}: it is {type(factory).__name__}, not a factory")
    if misfit := _misfit(factory):
        raise _cannot(f"call {name}: {misfit}")
    return factory()


def _checked(name: str, app: Any) -> WSGIApplication:
    """`app`, if it can be called as an application is (PEP 3333), as far as can be told."""
    if not callable(app):
        raise _cannot(f"serve {name}: it is {type(app).__name__}, not a WSGI application")
    if misfit := _misfit(app, "environ", "start_response"):
        if not _misfit(app):
            hint = f"it takes no arguments; if it is a factory, write '{name}()'"
            raise _cannot(f"serve {name}: {hint}")
        raise _cannot(f"serve {name} as a WSGI application: {misfit}")
    application: WSGIApplication = app
    return application


def _misfit(function: Callable[..., object], *arguments: str) -> str:
    """Why it cannot be called with so many arguments; empty if it can, or if nothing tells."""
    try:
        signature = inspect.signature(function, follow_wrapped=False)  # how it is called itself
    except (TypeError, ValueError):  # much that is written in C has none
        return ""
    try:
        signature.bind(*arguments)
    except TypeError as error:
        return str(error)
    return ""


class _Demo(BatchMiddleware):
    """The demo's endpoint, whose console begins with the demo's own batch, sent by Ada."""

    example = Example(demo.BATCH, f"Authorization: Bearer {demo.TOKEN}")


def _greeting(name: str | None, path: str, port: int, console: bool) -> str:
    """What is served where, and a command to try it with, for a POSIX shell."""
    url = f"http://{HOST}:{port}"
    lines = [f"Serving {name or 'the demo'} on {url}, its batch endpoint on {url}{path}"]
    if console:
        lines.append(f"Open {url}{quote(path)} in a browser to write batches and see what they do.")
    batch, login = '{"requests": [{"uri": "/"}]}', ""
    if name is None:
        lines += [f"  {route:30} {what}" for route, what in demo.ROUTES.items()]
        batch, login = demo.BATCH, f"-H 'Authorization: Bearer {demo.TOKEN}' "
    lines += [
        "Try a batch:",
        "",
        f"curl {url}{quote(path)} -H 'Content-Type: application/json' {login}-d '{batch}'",
        "",
        "For development only; Ctrl-C stops it.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
