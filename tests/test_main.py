"""`python -m batchwsgi`, run as a person does, and the demo that it serves."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from base64 import b64decode
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import Client
from wsgicors import CORS

import batchwsgi
from batchwsgi import BatchMiddleware, __main__, demo, wsgi
from batchwsgi.__main__ import main

from .support import ask, batch, environ


@contextmanager
def serving(*arguments, directory=None):
    """The server with these arguments, on a free port; gives what it said, its port and its end."""
    command = [sys.executable, "-m", "batchwsgi", "--port", "0", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=directory,
        env=environment,
    ) as process:
        try:
            said = []
            while not said or "Ctrl-C" not in said[-1]:
                line = process.stdout.readline()
                assert line, said
                said.append(line)
            port = int(said[0].split("127.0.0.1:")[1].split(",")[0])
            yield "".join(said), port, process
        finally:
            process.kill()


@pytest.fixture
def serve_once(monkeypatch):
    """Run `main` in this process, up to where it would serve; gives what would be served."""
    servers = []

    def serve_forever(server):
        servers.append(server)

    monkeypatch.setattr("werkzeug.serving.BaseWSGIServer.serve_forever", serve_forever)

    def run(*arguments):
        main(["--port", "0", *arguments])
        return servers[-1].app

    yield run
    for server in servers:
        server.server_close()


def request(port, method, path, body=None, headers=None):
    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.read()


def curl(line):
    """Method, path, headers and body of a `curl` line."""
    words = iter(shlex.split(line))
    assert next(words) == "curl"
    path = "/" + next(words).split("/", 3)[3]
    headers, body = {}, ""
    for word in words:
        if word == "-H":
            name, value = next(words).split(": ", 1)
            headers[name] = value
        else:
            assert word == "-d"
            body = next(words)
    return "POST", path, body, headers


def test_the_demo_and_the_batch_that_it_prints():
    with serving() as (said, port, process):
        assert said.startswith(
            f"Serving the demo on http://127.0.0.1:{port}, its batch endpoint on"
        )
        for route in demo.ROUTES:
            assert route in said
        line = said[said.index("curl ") : said.index("\nFor development only")]
        assert f"curl http://127.0.0.1:{port}/batch" in line
        status, body = request(port, *curl(line))
        entries = json.loads(body)["responses"]
        assert status == 200
        assert [entry["status_code"] for entry in entries] == [
            *["200", "200", "201", "200", "302", "200", "200", "404", "500"]
        ]
        assert entries[0]["body"] == {"name": "Ada"}
        assert entries[2]["headers"]["Location"] == "/orders/1"
        assert entries[6]["encoding"] == "base64"
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


@pytest.mark.parametrize("where", ["app", "app.wsgi_app"])
def test_an_application_that_is_wrapped_already(tmp_path, where):
    """Its own options count, and its own path."""
    (tmp_path / "wrapped.py").write_text(
        "from batchwsgi import BatchMiddleware\n"
        "from flask import Flask\n"
        "from werkzeug.exceptions import Forbidden\n"
        "def authorize(environ): raise Forbidden\n"
        "app = Flask(__name__)\n"
        f"{where} = BatchMiddleware({where}, '/own', authorize=authorize)\n"
    )
    with serving("wrapped:app", directory=tmp_path) as (said, port, _):
        line = said[said.index("curl ") : said.index("\nFor development only")]
        assert "/own -H" in line
        _, body = request(port, *curl(line))
        assert json.loads(body)["responses"][0]["status_code"] == "403"


def test_an_endpoint_inside_of_other_middleware():
    own = BatchMiddleware(demo.app, "/own")
    for outside in (ProxyFix(own), CORS(ProxyFix(own)), OpenTelemetryMiddleware(own)):
        assert __main__._endpoint(outside) is own
    circle = ProxyFix(demo.app)
    circle.app = circle
    for without in (demo.app, ProxyFix(demo.app), circle):
        assert __main__._endpoint(without) is None


def test_what_a_module_itself_cannot_import_has_its_traceback(tmp_path, monkeypatch):
    (tmp_path / "needs.py").write_text("import nothing_like_this\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="nothing_like_this"):
        main(["needs:app"])


def test_an_application_of_ones_own(tmp_path):
    (tmp_path / "myapp.py").write_text(
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Type', 'text/plain')])\n"
        "    return [b'mine']\n"
    )
    with serving("myapp:app", "--path", "/api/all", directory=tmp_path) as (said, port, _):
        assert said.startswith(f"Serving myapp:app on http://127.0.0.1:{port}, its batch endpoint")
        line = said[said.index("curl ") : said.index("\nFor development only")]
        _, body = request(port, *curl(line))
        assert json.loads(body)["responses"][0]["body"] == "mine"
        assert request(port, "GET", "/x") == (200, b"mine")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nowhere:app"], "batchwsgi: cannot import nowhere:app: No module named 'nowhere'"),
        (["json:app"], "cannot import json:app: module 'json' has no attribute 'app'"),
        (["json:decoder"], "cannot serve json:decoder: it is module, not a WSGI application"),
        (
            ["json"],
            "batchwsgi: cannot serve 'json': it does not name an application as module:attribute "
            "or module:factory()",
        ),
        (["json:"], "does not name an application as module:attribute"),
        ([":app"], "does not name an application as module:attribute"),
        (["a b:c"], "does not name an application as module:attribute"),
        (["json:dumps("], "does not name an application as module:attribute"),
        (["json.nowhere:app"], "cannot import json.nowhere:app: No module named 'json.nowhere'"),
        (["json.py:app"], "cannot import json.py:app: No module named 'json.py'"),
        (["json:decoder.app"], "module 'json.decoder' has no attribute 'app'"),
        (["--path", "x"], "batchwsgi: cannot serve the endpoint: path: 'x' does not begin with /"),
    ],
)
def test_one_clear_line(arguments, line):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert line in caught.value.code
    assert "\n" not in caught.value.code


FACTORIES = """
import functools
import json
from flask import Flask
from batchwsgi import BatchMiddleware

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"made"]

def create_app(name=None):
    app = Flask("made")
    app.add_url_rule("/", view_func=lambda: "made")
    return app

def wrapped():
    return BatchMiddleware(application, "/own")

def needy(config): raise AssertionError
def nothing(): pass
def fails(): raise LookupError("this factory fails")
def imports(): import nothing_like_this
async def asgi(scope, receive, send): raise AssertionError

class Application:
    def __call__(self, environ, start_response):
        return application(environ, start_response)

def as_wsgi(view):
    @functools.wraps(view)
    def called(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [view()]
    return called

@as_wsgi
def view(): return b"made"

class Iterator:
    def __init__(self, environ, start_response):
        self.parts = application(environ, start_response)
    def __iter__(self):
        return iter(self.parts)

application.by = create_app
without_signature = type("Odd", (Application,), {"__signature__": 1})()
"""


@pytest.fixture
def factories(tmp_path, monkeypatch):
    """A module of applications, and of what makes them."""
    (tmp_path / "factories.py").write_text(FACTORIES)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("factories", None)


@pytest.mark.parametrize(
    "name",
    [
        *["application", "create_app()", "wrapped()", "application.by()", "Application()"],
        *["view", "Iterator", "without_signature"],
    ],
)
def test_an_application_and_a_factory(factories, serve_once, name):
    served = serve_once(f"factories:{name}")
    path = "/own" if name == "wrapped()" else "/batch"
    assert batch(served, "/", path=path).entries[0]["body"] == "made"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (
            "create_app",
            "serve factories:create_app: it takes no arguments; if it is a factory, "
            "write 'factories:create_app()'",
        ),
        ("wrapped", "serve factories:wrapped: it takes no arguments; if it is a factory, write "),
        ("Application", "serve factories:Application: it takes no arguments; if it is a factory"),
        (
            "needy",
            "serve factories:needy as a WSGI application: too many positional arguments",
        ),
        (
            "asgi",
            "serve factories:asgi as a WSGI application: missing a required argument: 'send'",
        ),
        ("needy()", "call factories:needy(): missing a required argument: 'config'"),
        (
            "application()",
            "call factories:application(): missing a required argument: 'environ'",
        ),
        ("nothing()", "serve factories:nothing(): it is NoneType, not a WSGI application"),
        ("json()", "call factories:json(): it is module, not a factory"),
        ("nowhere()", "import factories:nowhere(): module 'factories' has no attribute 'nowhere'"),
        ("create_app('x')", "call create_app with 'x': a factory is called without arguments"),
        ("create_app(a=f())", "call create_app with a=f(): a factory is called without arguments"),
    ],
)
def test_one_clear_line_of_a_factory(factories, name, line):
    with pytest.raises(SystemExit) as caught:
        main([f"factories:{name}"])
    assert caught.value.code.startswith(f"batchwsgi: cannot {line}")
    assert "\n" not in caught.value.code


@pytest.mark.parametrize(("name", "error"), [("fails", LookupError), ("imports", ImportError)])
def test_what_a_factory_raises_has_its_traceback(factories, name, error):
    with pytest.raises(error, match=r"this factory fails|nothing_like_this"):
        main([f"factories:{name}()"])


def test_a_factory_is_called_once(tmp_path):
    (tmp_path / "made.py").write_text(
        "made = []\n"
        "def create_app():\n"
        "    made.append(app)\n"
        "    return app\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Type', 'text/plain')])\n"
        "    return [b'%d' % len(made)]\n"
    )
    with serving("made:create_app()", directory=tmp_path) as (said, port, _):
        assert said.startswith(f"Serving made:create_app() on http://127.0.0.1:{port}, its batch")
        assert [request(port, "GET", "/x") for _ in range(2)] == [(200, b"1")] * 2


@pytest.mark.parametrize("port", ["70000", "-1", "x"])
def test_no_port(port, capsys):
    with pytest.raises(SystemExit):
        main([f"--port={port}"])
    assert f"argument --port: invalid port value: '{port}'" in capsys.readouterr().err


def test_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(SystemExit) as caught:
            main(["--port", str(port)])
    assert caught.value.code == (
        f"batchwsgi: cannot listen on port {port}: Address already in use; choose another --port"
    )


def test_no_traceback_on_the_command_line():
    command = [sys.executable, "-m", "batchwsgi", "nowhere:app"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 1
    assert done.stderr == "batchwsgi: cannot import nowhere:app: No module named 'nowhere'\n"


def test_serving_in_this_process(serve_once, monkeypatch, capsys):
    """What the other tests run in a process of its own, where coverage does not look."""
    serve_once()
    serve_once("batchwsgi.demo:app", "--path", "/é")
    monkeypatch.setattr("batchwsgi.demo.wrapped", BatchMiddleware(demo.app, "/w"), raising=False)
    serve_once("batchwsgi.demo:wrapped")
    serve_once("batchwsgi.demo:wrapped", "--path", "/second")
    assert "Serving the demo on" in (said := capsys.readouterr().out)
    assert "/%C3%A9 -H 'Content-Type" in said
    assert "/w -H 'Content-Type" in said
    assert "/second -H 'Content-Type" in said


# --- The demo ----------------------------------------------------------------------------------

JSON_TYPE = {"Content-Type": "application/json"}
TOKEN = {"Authorization": f"Bearer {demo.TOKEN}"}


@pytest.fixture
def app():
    return BatchMiddleware(demo.Request.application(demo.Demo().respond))


def test_demo_knows_who_asks(app):
    assert batch(app, "/user/~me").entries[0]["status_code"] == "401"
    (entry,) = batch(app, "/user/~me?fields=name,mail", headers=TOKEN).entries
    assert entry["body"] == {"name": "Ada", "mail": "ada@example.org"}
    wrong = {"Authorization": "Bearer wrong"}
    assert batch(app, "/user/~me", headers=wrong).entries[0]["status_code"] == "401"


def test_demo_log_in_by_cookie(app):
    client = Client(app)
    login = {"method": "post", "uri": "/login", "args": {"name": "grace"}}
    reply = client.post("/batch", json={"requests": [login]})
    assert reply.json["responses"][0]["body"] == {"hello": "Grace"}
    assert "Set-Cookie" not in reply.json["responses"][0]["headers"]
    reply = client.post("/batch", json={"requests": [{"uri": "/user/~me"}]})
    assert reply.json["responses"][0]["body"]["name"] == "Grace"
    nobody = {"method": "post", "uri": "/login", "args": {"name": "nobody"}}
    assert batch(app, nobody).entries[0]["status_code"] == "401"


def test_demo_orders(app):
    order = {"method": "post", "uri": "/orders", "body": {"sku": "A1"}}
    bad = {"method": "post", "uri": "/orders", "body": []}
    uris = ["/orders/1", "/orders/2", "/orders", "/orders?sku=B"]
    entries = batch(app, order, bad, *uris, headers=TOKEN).entries
    made = {"number": 1, "user": "ada", "sku": "A1", "n": 1}
    assert [entry["status_code"] for entry in entries] == ["201", "400", "200", "404", "200", "200"]
    assert [entry["body"] for entry in entries if entry["status_code"] == "200"] == [
        made,
        [made],
        [],
    ]


def test_demo_batch(app, caplog):
    reply = ask(app, environ("POST", "/batch", demo.BATCH.encode(), {**TOKEN, **JSON_TYPE}))
    assert [entry["status_code"] for entry in reply.entries] == [
        *["200", "200", "201", "200", "302", "200", "200", "404", "500"]
    ]
    assert reply.entries[4]["headers"]["Location"] == "/user/~me"
    assert reply.entries[5]["body"] == "One round trip instead of twenty.\n"
    assert b64decode(reply.entries[6]["body"]).startswith(b"\x89PNG")
    assert "This view always fails." in caplog.text


def test_demo_stays_small():
    assert len(Path(demo.__file__).read_text().splitlines()) < 200


def test_version_says_which_build_it_is(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    build = "compiled" if wsgi.__file__.endswith((".so", ".pyd")) else "pure Python"
    assert capsys.readouterr().out == f"batchwsgi {batchwsgi.__version__} ({build})\n"
